"""Switches forget the connections that probes began: otherwise every change has to judge thousands of them."""

from __future__ import annotations

import subprocess
from typing import Final

from ncp.probe.site import BRIDGE, Site
from sdn.compile.firewall import LEARNED
from sdn.pipeline.registers import ZONE
from sdn.pipeline.tables import T

_OFCTL: Final = ("ovs-ofctl", "-O", "OpenFlow15", "add-flows")


def forget(site: Site, prefix: str) -> None:
    """Forget what is tracked at the ports of pods in namespaces that begin with ``prefix``; SCTP associations are flows.

    Raises:
        AppctlError: a switch did not answer.
    """
    for node, rundir in site.switches.rundirs.items():
        zones = [number for name, number in site.attachments(node).items() if name.startswith(prefix)]
        site.switches.calls(node, "dpctl/flush-conntrack", [(f"zone={zone}",) for zone in zones])
        where = f"delete table={T['associations']},cookie={LEARNED:#x}/-1"
        lines = (f"{where},{ZONE.register}={zone << ZONE.low:#x}/{ZONE.mask:#x}\n" for zone in zones)
        command = (*_OFCTL, f"unix:{rundir}/{BRIDGE}.mgmt", "-")
        subprocess.run(command, input="".join(lines), text=True, capture_output=True, check=False)
