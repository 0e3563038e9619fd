"""What names of a cluster are answered with, without a network."""

from __future__ import annotations

import random
from typing import Any

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labs.cluster.slicing import SERVICE_LABEL
from labs.kubelet.messages import answer
from labs.kubelet.names import SERVICE_DOMAIN, records, resolv_conf
from ncp.kube.resources import SERVICES

Json = dict[str, Any]


class Held:
    """Services and slices, as a view has them."""

    def __init__(self, services: list[Json], slices: list[Json]) -> None:
        self._services, self._slices = services, slices

    def has(self, resource):
        return resource == SERVICES or bool(self._slices)

    def get(self, resource, key):
        return next((each for each in self.within(resource, key[0]) if each["metadata"]["name"] == key[1]), None)

    def within(self, resource, namespace):
        held = self._services if resource == SERVICES else self._slices
        return [each for each in held if each["metadata"]["namespace"] == namespace]


def service(name: str, *addresses: str, space: str = "shop", **spec: Any) -> Json:
    if addresses:
        spec |= {"clusterIP": addresses[0], "clusterIPs": list(addresses)}
    return {"metadata": {"name": name, "namespace": space}, "spec": spec}


def endpoint_slice(name: str, *endpoints: Json, space: str = "shop", ports: tuple[Json, ...] = ()) -> Json:
    metadata = {"name": f"{name}-x", "namespace": space, "labels": {SERVICE_LABEL: name}}
    return {"metadata": metadata, "endpoints": list(endpoints), "ports": list(ports)}


def endpoint(address: str, hostname: str = "", **conditions: bool) -> Json:
    return {"addresses": [address], "conditions": conditions, **({"hostname": hostname} if hostname else {})}


PEER = {"name": "peer", "port": 7000, "protocol": "TCP"}
HELD = Held(
    [
        service("web", "10.96.0.1", "fd96::1", ports=[{"name": "http", "port": 80}, {"name": "q", "port": 9}]),
        service("four", "10.96.0.2", ports=[{"port": 80}]),
        service("old", clusterIP="10.96.0.3"),
        service("db", "None", ports=[PEER]),
        service("idle", "None"),
        service("ext", type="ExternalName", externalName="Example.COM"),
        service("alias", type="ExternalName", externalName="web.shop.svc.cluster.local."),
        service("gone", type="ExternalName", externalName="nobody.shop.svc.cluster.local"),
        service("ring", type="ExternalName", externalName="ring.shop.svc.cluster.local"),
        service("web", "10.96.1.1", space="other"),
    ],
    [
        endpoint_slice("web", endpoint("10.4.0.9")),
        endpoint_slice("db", endpoint("10.4.0.2", "db-0", ready=True), endpoint("10.4.0.3", "db-1"), ports=(PEER,)),
        endpoint_slice("db", endpoint("10.4.0.4", "db-2", ready=False), endpoint("10.4.0.2", "db-0"), ports=(PEER,)),
        endpoint_slice("db", endpoint("fd04::2", "db-0"), endpoint("fd04::5"), ports=(PEER,)),
        endpoint_slice("idle", endpoint("10.4.0.7", ready=False)),
        endpoint_slice("db", endpoint("10.5.0.1", "db-0"), space="other"),
    ],
)

SAID = {
    "web": {"A": ["10.96.0.1"], "AAAA": ["fd96::1"]},
    "four": {"A": ["10.96.0.2"]},
    "old": {"A": ["10.96.0.3"]},
    "db": {"A": ["10.4.0.2", "10.4.0.3"], "AAAA": ["fd04::2", "fd04::5"]},
    "db-0.db": {"A": ["10.4.0.2"], "AAAA": ["fd04::2"]},
    "db-1.db": {"A": ["10.4.0.3"]},
    "fd04--5.db": {"AAAA": ["fd04::5"]},
    "_http._tcp.web": {"SRV": ["0 100 80 web.shop.svc.cluster.local."]},
    "_peer._tcp.db": {"SRV": [f"0 100 7000 {name}.db.shop.svc.cluster.local." for name in ("db-0", "db-1", "fd04--5")]},
    "ext": {"CNAME": ["Example.COM."]},
    # no such name
    "db-2.db": None,
    "db-9.db": None,
    "idle": None,
    "nobody": None,
    "x.ext": None,
    "_http._udp.web": None,
    "http.tcp.web": None,
    "_._tcp.four": None,
    "a.b.c.web": None,
}


@pytest.mark.parametrize("name", SAID)
def test_what_a_name_stands_for(name: str) -> None:
    assert records((*name.split("."), "shop", *SERVICE_DOMAIN), HELD) == SAID[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cluster.local", {}),
        ("svc.cluster.local", {}),
        ("shop.svc.cluster.local", {}),
        ("nowhere.svc.cluster.local", None),
        ("web.other.svc.cluster.local", {"A": ["10.96.1.1"]}),
        ("web.nowhere.svc.cluster.local", None),
        ("web.shop.pod.cluster.local", None),
        ("web.shop", None),
    ],
)
def test_what_is_around_services(name: str, said: Json | None) -> None:
    assert records(name.split("."), HELD) == said


def ask(name: str, kind: str = "A", held: Held | None = HELD, **options: Any) -> dns.message.Message:
    said = answer(dns.message.make_query(name, kind, **options).to_wire(), held)
    assert said is not None
    return dns.message.from_wire(said)


def texts(message: dns.message.Message) -> list[str]:
    return [each.to_text() for each in message.answer]


FULL = "shop.svc.cluster.local"


@pytest.mark.parametrize(
    ("name", "kind", "code", "said"),
    [
        (f"web.{FULL}", "A", "NOERROR", [f"web.{FULL}. 5 IN A 10.96.0.1"]),
        (f"wEb.{FULL}", "AAAA", "NOERROR", [f"wEb.{FULL}. 5 IN AAAA fd96::1"]),
        (f"four.{FULL}", "AAAA", "NOERROR", []),
        (f"web.{FULL}", "MX", "NOERROR", []),
        (f"nobody.{FULL}", "A", "NXDOMAIN", []),
        ("example.com", "A", "NXDOMAIN", []),
        (f"ext.{FULL}", "A", "NOERROR", [f"ext.{FULL}. 5 IN CNAME Example.COM."]),
        (f"alias.{FULL}", "CNAME", "NOERROR", [f"alias.{FULL}. 5 IN CNAME web.{FULL}."]),
        (
            f"alias.{FULL}",
            "A",
            "NOERROR",
            [f"alias.{FULL}. 5 IN CNAME web.{FULL}.", f"web.{FULL}. 5 IN A 10.96.0.1"],
        ),
        (f"gone.{FULL}", "A", "NXDOMAIN", [f"gone.{FULL}. 5 IN CNAME nobody.{FULL}."]),
    ],
)
def test_answers(name: str, kind: str, code: str, said: list[str]) -> None:
    found = ask(name, kind)
    assert (dns.rcode.to_text(found.rcode()), texts(found)) == (code, said)


def test_a_server_without_slices_has_names_for_cluster_addresses() -> None:
    old = Held([service("web", "10.96.0.1"), service("db", "None")], [])
    assert texts(ask(f"web.{FULL}", held=old)) == [f"web.{FULL}. 5 IN A 10.96.0.1"]
    assert ask(f"db.{FULL}", held=old).rcode() == dns.rcode.NXDOMAIN


def test_an_alias_of_itself_ends() -> None:
    assert ask(f"ring.{FULL}").rcode() == dns.rcode.NOERROR


def test_before_anything_is_known_nothing_is_denied() -> None:
    assert ask(f"web.{FULL}", held=None).rcode() == dns.rcode.SERVFAIL


def test_other_questions_are_refused_by_name() -> None:
    assert ask(f"web.{FULL}", rdclass="CH").rcode() == dns.rcode.REFUSED
    query = dns.message.make_query(f"web.{FULL}", "A")
    query.set_opcode(dns.opcode.STATUS)
    assert dns.message.from_wire(answer(query.to_wire(), HELD) or b"").rcode() == dns.rcode.NOTIMP
    query = dns.message.Message()
    assert dns.message.from_wire(answer(query.to_wire(), HELD) or b"").rcode() == dns.rcode.FORMERR


def test_an_answer_is_not_answered() -> None:
    said = answer(dns.message.make_query(f"web.{FULL}", "A").to_wire(), HELD)
    assert said is not None
    assert answer(said, HELD) is None


CROWD = Held(
    [service("crowd", "None")], [endpoint_slice("crowd", *(endpoint(f"10.4.{n // 256}.{n % 256}") for n in range(500)))]
)


def test_what_is_too_long_is_cut_over_udp_and_whole_over_tcp() -> None:
    query = dns.message.make_query(f"crowd.{FULL}", "A")
    short = answer(query.to_wire(), CROWD)
    assert short is not None
    assert len(short) <= 512
    assert dns.message.from_wire(short).flags & dns.flags.TC
    whole = dns.message.from_wire(answer(query.to_wire(), CROWD, stream=True) or b"")
    assert not whole.flags & dns.flags.TC
    assert sum(len(each) for each in whole.answer) == 500


def test_a_client_that_takes_more_is_given_more() -> None:
    query = dns.message.make_query(f"crowd.{FULL}", "A", use_edns=True, payload=9000)
    said = answer(query.to_wire(), CROWD)
    assert said is not None
    assert 512 < len(said) <= 9000
    assert not dns.message.from_wire(said).flags & dns.flags.TC


@given(st.binary(max_size=80))
def test_no_bytes_break_it(junk: bytes) -> None:
    said = answer(junk, HELD)
    assert said is None or said[:2] == junk[:2]


@given(st.integers(0, 2**32), st.integers(0, 60), st.binary(min_size=1, max_size=4))
def test_no_damage_to_a_query_breaks_it(seed: int, at: int, junk: bytes) -> None:
    chance = random.Random(seed)
    wire = bytearray(dns.message.make_query(f"{chance.choice(list(SAID))}.{FULL}", "A", use_edns=True).to_wire())
    wire[at : at + len(junk)] = junk
    said = answer(bytes(wire), HELD)
    assert said is None or said[:2] == bytes(wire[:2])


@given(st.sampled_from([name for name, said in SAID.items() if said]), st.randoms())
def test_the_case_of_a_name_does_not_matter_and_is_given_back(name: str, chance: random.Random) -> None:
    mixed = "".join(chance.choice((each.lower(), each.upper())) for each in f"{name}.{FULL}")
    for kind in ("A", "AAAA", "SRV"):
        found, plain = ask(mixed, kind), ask(f"{name}.{FULL}", kind)
        assert found.question[0].name.to_text() == f"{mixed}."
        assert [set(each) for each in found.answer] == [set(each) for each in plain.answer]


def test_a_pods_search_list_begins_with_its_own_namespace() -> None:
    assert resolv_conf("shop").splitlines() == [
        "nameserver 127.0.0.10",
        "search shop.svc.cluster.local svc.cluster.local cluster.local",
        "options ndots:5",
    ]
