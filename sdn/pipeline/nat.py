"""The tables that give pods' packets another sender where they leave for the outside: at the node port of a node that lets them out."""

from __future__ import annotations

from typing import Final

from sdn.pipeline.spec import Miss, Table

_SENDER: Final = {"eth_type", "ipv4_src", "ipv6_src"}

NAT: Final = (
    Table(
        "snat",
        "Translate the sender of a new connection to the address its pod, its service or its namespace has outside. What is for the node "
        "itself, and pods that keep their own addresses, pass; a pod that has no address there yet does not.",
        matches=frozenset({"ct_state", *_SENDER, "ip_proto", "ipv4_dst", "ipv6_dst"}),
        writes=frozenset({"ipv4_src", "ipv6_src", "ct_mark"}),
        goes_to=("snat_done", "deliver"),
        miss=Miss(table="deliver"),
        observes="source translated",
    ),
    Table(
        "snat_done",
        "Drop, and count, what no port was left for.",
        matches=frozenset({"ct_state", *_SENDER}),
        goes_to=("deliver",),
        miss=Miss(table="deliver"),
        observes="source translated",
    ),
)
