"""What policies that are not applied yet would change: verdicts, flows and connections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ncp.node.standing import associations
from ncp.probe.expect import domain_of, expected
from ncp.probe.model import Probe, Verdict
from ncp.probe.site import BRIDGE, Site
from ncp.translate.intent import Translation, apply_all
from ncp.verify.errors import Refused
from ncp.verify.policies import section_of
from sdn.compile.pieces import Attachments
from sdn.conntrack import Forbidden, Tracked, forbidden, parse
from sdn.model import Origin
from sdn.openflow.dump import dump_flows
from sdn.openflow.pack import owner_of
from sdn.pipeline.tables import T
from sdn.program import Program, against, build
from sdn.reference import reference

Json = dict[str, Any]
NAMES: Final = {number: name for name, number in T.items()}


@dataclass(frozen=True, slots=True)
class Turn:
    """A probe that would be answered otherwise, or for other reasons."""

    probe: Probe
    before: Verdict
    after: Verdict

    @property
    def is_another_answer(self) -> bool:
        """Whether more than the reason changes."""
        return self.before.answer != self.after.answer


@dataclass(frozen=True, slots=True)
class FlowChange:
    """Flows of one table of a node that one object asks for, and that come or go."""

    node: str
    table: str
    origin: Origin
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Connection:
    """A live connection that would be forbidden, and whether it ends."""

    node: str
    forbidden: Forbidden

    @property
    def ends(self) -> bool:
        """Whether its policy lets it live on."""
        return self.forbidden.fate != "keep"


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change of policies would do to a cluster. ``after`` is the cluster as it would be."""

    after: Translation
    turns: tuple[Turn, ...]
    flows: tuple[FlowChange, ...]
    policies: Mapping[str, Json]  # those of the change, by key
    attached: Mapping[str, Attachments]  # where ports were, by node
    connections: tuple[Connection, ...]
    live: int  # connections that policies could end at all


def preview(site: Site, policies: Mapping[str, Json], deleted: Set[str], probes: Sequence[Probe]) -> Preview:
    """What comes of these policies (as the API server would have them, by key) and without those deleted.

    Raises:
        Refused: a policy cannot be understood, or one to be deleted is not there.
        SwitchGone, SwitchTimeout, AppctlError: a switch cannot be asked.
    """
    for key in sorted(key for key in deleted if key not in site.intent.sections):
        raise Refused(f"{key} cannot be deleted: there is no such policy")
    for key, policy in policies.items():
        if fault := section_of(policy).fault:
            raise Refused(f"{key}: {fault}. Applied like this it would cut off what it selects")
    changes = [(key.split("/"), policies.get(key)) for key in [*sorted(deleted), *policies]]
    after, _ = apply_all(site.translation, ((kind, (space, name), obj) for (kind, space, name), obj in changes))
    return Preview(
        after,
        tuple(_turns(site, after, probes)),
        _flows(site, after),
        policies,
        {node: site.attachments(node) for node in site.switches.rundirs},
        *_connections(site, after),
    )


def _turns(site: Site, after: Translation, probes: Sequence[Probe]) -> Iterable[Turn]:
    domains = {domain_of(site.intent, probe) for probe in probes}
    intents = (site.intent, after.intent)
    worlds = {domain: tuple(reference(intent, domain=domain) for intent in intents) for domain in domains}
    for probe in probes:
        was, will = (
            expected(intent, world, site.endpoints, site.listening, probe)
            for intent, world in zip(intents, worlds[domain_of(site.intent, probe)], strict=True)
        )
        if (was.answer, was.causes) != (will.answer, will.causes):
            yield Turn(probe, was, will)


# -- flows ----------------------------------------------------------------------------------------------------------


def program_of(site: Site, translation: Translation, node: str) -> Program:
    """The program of a node's switch under an intent."""
    return build(translation.intent, node, owner_of(translation.cluster), site.attachments(node))


def _flows(site: Site, after: Translation) -> tuple[FlowChange, ...]:
    counts: dict[tuple[str, str, Origin], list[int]] = {}
    for node in sorted(site.switches.rundirs):
        was, will = program_of(site, site.translation, node), program_of(site, after, node)
        changes = against(will, {each.key: each.cookie for each in was.entries()})
        for entry in changes.add:
            counts.setdefault((node, NAMES[entry.flow.table], entry.flow.origin), [0, 0])[0] += 1
        kept = {entry.key for entry in will.entries()}
        for entry in was.entries():
            if entry.key not in kept:
                counts.setdefault((node, NAMES[entry.flow.table], entry.flow.origin), [0, 0])[1] += 1
    return tuple(FlowChange(*where, added, removed) for where, (added, removed) in sorted(counts.items(), key=str))


# -- connections ----------------------------------------------------------------------------------------------------


def tracked(site: Site, node: str) -> list[Tracked]:
    """The connections a node's switch tracks.

    Raises:
        AppctlError, SwitchGone, SwitchTimeout: it does not answer.
    """
    (text,) = site.switches.calls(node, "dpctl/dump-conntrack", [()])
    noted = dump_flows(Path(site.switches.rundirs[node], f"{BRIDGE}.mgmt"), table=T["associations"])
    return [*parse(text), *associations(noted)]


def _connections(site: Site, after: Translation) -> tuple[tuple[Connection, ...], int]:
    """Those that would be forbidden and are not now, and how many there are."""
    found, live = [], 0
    for node in sorted(site.switches.rundirs):
        zones = {ofport: name for name, ofport in site.attachments(node).items()}
        here = [each for each in tracked(site, node) if each.zone in zones]
        live += len(here)
        now = {
            each.tracked for each in forbidden(here, site.intent, program_of(site, site.translation, node).rules, zones)
        }
        will = forbidden(here, after.intent, program_of(site, after, node).rules, zones)
        found += [Connection(node, each) for each in will if each.tracked not in now]
    return tuple(found), live
