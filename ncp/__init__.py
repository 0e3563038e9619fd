"""Kubernetes in, status out: the manager, the node agent, the CNI plugin and the command line."""
