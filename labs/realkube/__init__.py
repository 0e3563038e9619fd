"""A real control plane for labs and tests: ``etcd`` and ``kube-apiserver`` on this host, nothing else of Kubernetes.

``find_binaries()`` looks for the two programs, ``commands()`` says how to run them, ``write_kubeconfig()`` how to
reach them, and ``RealApi`` does all three for the length of a ``with`` block. Controllers, scheduler and kubelets are
the lab's own (``labs.cluster``, ``labs.kubelet``), which is why the admission plugins that wait for
kube-controller-manager are off: ServiceAccount (wants a token secret) and TaintNodesByCondition (taints every new node
until the node lifecycle controller lifts the taint).

Any server from 1.20 on will do; what an old one lacks shows in what a controller must cope with:

=======  ==================================================================================================
before   what is different, and what a client of ours does
=======  ==================================================================================================
1.21     namespaces carry no ``kubernetes.io/metadata.name`` label: select namespaces by name through
         ``metadata.name``, and treat the label as present when a selector asks for it
1.21     ``discovery.k8s.io/v1beta1`` EndpointSlices only: ask discovery which version is served
1.21     ``batch/v1`` has Jobs but no CronJobs (``batch/v1beta1``), ``policy/v1`` is absent
1.21     ``endPort`` of a NetworkPolicy port is dropped on the way in: the rule then covers one port only
1.21     ``internalTrafficPolicy`` of a Service is dropped: always treated as ``Cluster``
1.23     ``autoscaling/v2`` and the ``status`` subresource of NetworkPolicy are absent
1.24     gRPC probes are dropped, which leaves a probe without an action: the pod is refused
1.25     unknown fields are pruned silently; ``fieldValidation=Strict`` is ignored
=======  ==================================================================================================
"""

from labs.realkube.binaries import Binaries, BinariesMissingError, find_binaries
from labs.realkube.control_plane import Command, commands, write_kubeconfig
from labs.realkube.testing import RealApi

__all__ = [
    "Binaries",
    "BinariesMissingError",
    "Command",
    "RealApi",
    "commands",
    "find_binaries",
    "write_kubeconfig",
]
