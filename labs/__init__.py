"""The one-host runtime: nodes as network namespaces, a Kubernetes API, pods, and the lessons that run on them."""
