"""Kubernetes objects (as decoded JSON) to the logical network. Pure: dicts in, frozen values out."""
