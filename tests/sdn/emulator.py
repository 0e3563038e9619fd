"""A switch of a few lines: what a program's flows do with a packet, without Open vSwitch. For tests of compilers.

Packets are fields by name. Connection tracking finds every packet new unless told otherwise; commits do nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from sdn.pipeline import flow as f
from sdn.pipeline.tables import PIPELINE

NEW = 0x21


class Outcome(NamedTuple):
    """Where a packet ends: out of a port, at the controller, or (neither) dropped; and the flows it met."""

    port: int | None
    userdata: bytes
    met: tuple[f.Flow, ...]
    fields: dict[str, int]

    @property
    def last(self) -> f.Flow:
        return self.met[-1]


class Registers(dict[str, int]):
    """Fields of a packet; the wide registers are views of the narrow ones."""

    def read(self, name: str) -> int:
        if (wide := self._parts(name)) is not None:
            return sum(self.get(part, 0) << 32 * (len(wide) - 1 - n) for n, part in enumerate(wide))
        return self.get(name, 0)

    def write(self, name: str, value: int) -> None:
        if (wide := self._parts(name)) is not None:
            for n, part in enumerate(wide):
                self[part] = value >> 32 * (len(wide) - 1 - n) & 0xFFFFFFFF
        else:
            self[name] = value

    def put(self, name: str, value: int, mask: int) -> None:
        self.write(name, self.read(name) & ~mask | value & mask)

    @staticmethod
    def _parts(name: str) -> list[str] | None:
        span = {"xx": 4, "x": 2}.get(name.rstrip("0123456789").removesuffix("reg"))
        if span is None or not name[-1].isdigit():
            return None
        first = int(name.rpartition("g")[2]) * span
        return [f"reg{first + n}" for n in range(span)]


class Emulator:
    """The flows of one node."""

    def __init__(self, flows: Iterable[f.Flow]) -> None:
        self._tables: dict[int, dict[int, list[f.Flow]]] = defaultdict(lambda: defaultdict(list))
        for flow in flows:
            self._tables[flow.table][flow.priority].append(flow)

    def send(self, fields: dict[str, int], *, ct_state: int = NEW) -> Outcome:
        """What becomes of a packet that comes in."""
        packet, met = Registers(fields), []
        table: int | None = 0
        while table is not None:
            found = self._look(table, packet)
            if found is None:
                return Outcome(None, b"", (*met,), dict(packet))
            met.append(found)
            table, port, userdata = self._act(found.actions, packet, met, ct_state)
            if port is not None or userdata:
                return Outcome(port, userdata, (*met,), dict(packet))
        return Outcome(None, b"", (*met,), dict(packet))

    def _look(self, table: int, packet: Registers) -> f.Flow | None:
        for priority in sorted(self._tables[table], reverse=True):
            hits = [each for each in self._tables[table][priority] if _matches(each, packet, None)]
            plain = [each for each in hits if not any(isinstance(a, f.Conjunction) for a in each.actions)]
            joined: dict[tuple[int, int], set[int]] = defaultdict(set)
            for each in hits:
                for action in each.actions:
                    if isinstance(action, f.Conjunction):
                        joined[action.id, action.clauses].add(action.clause)
            for (number, clauses), held in joined.items():
                if len(held) == clauses:
                    decides = [each for each in self._tables[table][priority] if _matches(each, packet, number)]
                    plain += [each for each in decides if any(name == "conj_id" for name, _, _ in each.match)]
            if plain:
                return plain[0]
        return None

    def _act(self, actions, packet, met, ct_state):
        port, userdata = None, b""
        for action in actions:
            match action:
                case f.SetField(name, value, mask):
                    packet.put(name, value, (1 << 128) - 1 if mask is None else mask)
                case f.CopyField(source, target, bits, offset, to):
                    value = packet.read(source) >> offset & (1 << bits) - 1
                    packet.put(target, value << to, (1 << bits) - 1 << to)
                case f.DecTtl():
                    packet["nw_ttl"] -= 1
                case f.Output(number):
                    port = packet["in_port"] if number == f.IN_PORT else number
                case f.OutputField(name, offset, bits):
                    port = packet.read(name) >> offset & (1 << bits) - 1
                case f.Controller(said, _):
                    userdata = said
                case f.Resubmit(table):
                    found = self._look(table, packet)
                    if found is not None:
                        met.append(found)
                        self._act(found.actions, packet, met, ct_state)
                case f.Ct(table=table, commit=False) if table is not None:
                    packet.update(ct_state=ct_state, ct_label=0, ct_tp_dst=_port(packet))
                    return table, port, userdata
                case f.Goto(table):
                    return table, port, b""  # what was only shown to the controller goes on
        return None, port, userdata


def _port(packet: Registers) -> int:
    return next((value for name, value in packet.items() if name in ("tcp_dst", "udp_dst", "sctp_dst")), 0)


def _matches(flow: f.Flow, packet: Registers, conjunction: int | None) -> bool:
    for name, value, mask in flow.match:
        if name == "conj_id":
            if value != conjunction:
                return False
        elif (name not in packet and not name.lstrip("x").startswith(("reg", "ct_", "ip_frag"))) or (
            packet.read(name) ^ value
        ) & ((1 << 128) - 1 if mask is None else mask):
            return False
    return True


def frame(source, destination, protocol: str | None, port: int = 0, *, in_port: int, mac: int, to: int, ttl: int = 64):
    """A packet as fields; ``source`` and ``destination`` are addresses, ``to`` the destination MAC address."""
    family = source.family
    number = {"tcp": 6, "udp": 17, "sctp": 132, None: 1 if family == 4 else 58}[protocol]
    fields = {
        "in_port": in_port, "eth_src": mac, "eth_dst": to, "eth_type": 0x0800 if family == 4 else 0x86DD,
        f"ipv{family}_src": source.value, f"ipv{family}_dst": destination.value, "ip_proto": number, "nw_ttl": ttl,
    }  # fmt: skip
    if protocol is None:
        return {**fields, f"icmpv{family}_type": 8 if family == 4 else 128}
    return {**fields, f"{protocol}_dst": port}


def table_of(outcome: Outcome) -> str:
    """Name of the table a packet ended in."""
    return PIPELINE.tables[outcome.last.table].name
