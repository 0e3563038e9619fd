"""One contract, asked of the lab's embedded API server and of a real kube-apiserver."""
