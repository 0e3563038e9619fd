"""The lab's kubelets: pods as network namespaces, plugged by the real CNI plugin and served by responders."""
