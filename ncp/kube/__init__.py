"""The only package that speaks to the Kubernetes API server."""
