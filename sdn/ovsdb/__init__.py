"""The switch's database: which bridge, ports and interfaces a node has, and the ports of its pods.

``ovs.poller`` imports eventlet when it finds it, only to ask whether the process is monkey-patched by it. It never
is here (threads are real, os-ken runs with its native hub), and the import costs 20 MB, so eventlet is made
unimportable before anything of ``ovs`` is imported. This is the one place that does so. A process that has eventlet
loaded already keeps it.

``ovs.poller`` also waits with ``select``, which fails for file descriptors past 1023; ``poll`` has no such limit.
"""

from __future__ import annotations

import select
import sys

sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]  # None makes the import fail (sys.modules docs)

import ovs.poller  # noqa: E402

ovs.poller.SelectPoll = select.poll
