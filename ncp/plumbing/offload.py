"""Turning off what a device would otherwise leave to hardware.

Open vSwitch's userspace datapath takes frames off a device as they are. With offloads on, the kernel hands over frames
without checksums, and TCP, UDP or SCTP segments of up to 64 KB that no wire can carry. Without them it completes
the checksums and cuts the segments itself before the device sees them; generic segmentation stays on, because it
does just that, late and cheaply.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pyroute2.ethtool.ioctl import EthtoolFeaturesList, IoctlEthtool

KEPT = "tx-generic-segmentation"


def disable_offload(interface: str) -> tuple[str, ...]:
    """Switch checksum and segmentation offloads off on an interface of the calling thread's namespace.

    Returns what was on. Names are the kernel's (``ethtool -k``).

    Raises:
        pyroute2.ethtool.ioctl.EthtoolError: no such interface, or the driver refuses.
    """
    with _features(interface) as (device, features):
        on = tuple(name for name in _active(features) if features.is_available(name))
        for name in on:
            features[name] = False
        if on:
            device.set_features(features)
        return on


def offloads(interface: str) -> tuple[str, ...]:
    """The offloads of an interface that are on and would harm the userspace datapath."""
    with _features(interface) as (_, features):
        return _active(features)


def _active(features: EthtoolFeaturesList) -> tuple[str, ...]:
    names = features.keys()  # iterating over it gives tuples, not names
    return tuple(name for name in names if _is_offload(name) and features.is_active(name))


def _is_offload(name: str) -> bool:
    segmentation = name.startswith("tx-") and name.endswith("-segmentation") and name != KEPT
    return segmentation or name.startswith("tx-checksum-") or name == "tx-gso-list"


@contextlib.contextmanager
def _features(interface: str) -> Iterator[tuple[IoctlEthtool, EthtoolFeaturesList]]:
    device = IoctlEthtool(interface)
    try:
        yield device, device.get_features()
    finally:
        device.close()
