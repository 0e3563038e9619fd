"""The OpenFlow transport: flows to bytes, sessions with switches, reading back what they hold.

``pack``, ``match``, ``shape``, ``action``, ``learn``, ``message`` and ``fields`` are pure and write OpenFlow 1.5 as Open
vSwitch speaks it; ``session`` is the way in for everybody else. os-ken is imported by ``app`` alone.
"""
