"""``python -m labs.demo``: bring up a three-node lab, apply the shop, and show that everybody reaches everybody."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

HERE = Path(__file__).parent
NAMESPACES = ("shop-web", "shop-orders", "shop-data")
PODS = 7


def main() -> int:
    """Exit code of the first step that fails, else 0."""
    console = Console()
    state = Path(os.environ.get("NCP_LAB_STATE", "/var/lib/ncp-lab"))
    started = time.monotonic()
    ncp = [sys.executable, "-m", "ncp"]
    namespaces = [word for namespace in NAMESPACES for word in ("-n", namespace)]
    steps = [
        ("three nodes, real tunnels, one host", [*ncp, "lab", "up"]),
        ("an application over three namespaces", [*kubectl(state), "apply", "-f", str(HERE / "shop.yaml")]),
        ("its pods, ready", wait_for_pods(state)),
        ("where they are", [*ncp, "get", "pods"]),
        ("every pod to every other: intent, flows, wire", [*ncp, "probe", "matrix", *namespaces]),
    ]
    for title, argv in steps:
        console.rule(f"[bold]{title}[/]  [dim]{time.monotonic() - started:.1f} s", align="left")
        code = subprocess.run(argv, env={**os.environ, "NCP_LAB_STATE": str(state)}).returncode
        if code:
            console.print(f"[red]{' '.join(argv)} ended with {code}[/]")
            return code
    console.rule(f"[bold green]done in {time.monotonic() - started:.1f} s", align="left")
    console.print(
        "The lab stays up. Try:\n"
        "  .venv/bin/ncp lab exec shop-web/$(kubectl --kubeconfig $(.venv/bin/ncp lab kubeconfig) -n shop-web get pods"
        " -o name | head -1 | cut -d/ -f2) -- ping -c1 10.4.0.1\n"
        "  .venv/bin/ncp get switches      .venv/bin/ncp get flows --node node1\n"
        "  .venv/bin/ncp lab restart node node1     (no packet is lost)\n"
        "  .venv/bin/ncp lab down          (nothing is left)",
        highlight=False,
    )
    return 0


def kubectl(state: Path) -> list[str]:
    """kubectl, speaking to the lab."""
    return ["kubectl", "--kubeconfig", str(state / "kubeconfig")]


def wait_for_pods(state: Path) -> list[str]:
    """A command that ends once every pod of the shop is ready."""
    return [
        *kubectl(state), "wait", "pods", "--all-namespaces", "-l", "app in (web,orders,ledger)",
        "--for=condition=Ready", "--timeout=60s",
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
