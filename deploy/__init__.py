"""Manifests and unit files for a cluster. A package, so that an installed lab has the definitions it applies."""
