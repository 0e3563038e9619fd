"""``ncp.ini`` to frozen values: ``settings.coe.cluster``, ``settings.nsx_node_agent.mtu``, one attribute per option.

The options are declared in :mod:`ncp.settings_options`. An unknown section or option, a value of the wrong type or out
of range, and values that contradict each other are all reported at once.
"""

from __future__ import annotations

import configparser
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, make_dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final, NamedTuple

from ipam.address import Prefix
from ncp.settings_docs import render_markdown
from ncp.settings_options import OPTIONS, SECTIONS, Option
from sdn.model import pod_mtu

__all__ = ["Effective", "Settings", "SettingsError", "contradictions", "effective", "load", "parse", "render_markdown"]

TRANSIT_VNI: Final = 5000
"""The segment between tier-0 and the nodes; no namespace may get this number."""
_NEVER: Final = "\0"  # configparser would copy its default section into all others


class SettingsError(ValueError):
    """The file cannot be used. ``problems`` has a sentence for each thing wrong with it."""

    def __init__(self, source: str, problems: Iterable[str]):
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


def _attribute_names(section: str) -> list[str]:
    return [option.name for option in OPTIONS if section in (option.section, *option.also)]


SECTION_TYPES: Final = {
    section: make_dataclass(
        f"{section.title().replace('_', '')}Settings", _attribute_names(section), frozen=True, slots=True
    )
    for section in SECTIONS
}
"""One frozen dataclass per section, with one field per option."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All options with their values. ``given`` has those that the file sets; the others have their defaults."""

    DEFAULT: Any
    coe: Any
    ha: Any
    k8s: Any
    nsx_v3: Any
    nsx_node_agent: Any
    nsx_kube_proxy: Any
    vc: Any
    bgp: Any
    ncp: Any
    given: frozenset[tuple[str, str]] = frozenset()
    source: str = "(defaults)"


class Effective(NamedTuple):
    """An option with the value that holds, and whether the file says so."""

    option: Option
    value: Any
    given: bool

    @property
    def text(self) -> str:
        """The value as it would stand in the file."""
        return self.option.kind.show(self.value)


def load(path: str | Path) -> Settings:
    """Read and check a file.

    Raises:
        SettingsError: it cannot be read, or something in it is wrong.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(str(path), [f"cannot be read: {reason}"]) from error
    return parse(text, str(path))


def parse(text: str, source: str = "ncp.ini") -> Settings:
    """Settings from the text of a file; ``source`` names it in errors.

    Raises:
        SettingsError: something in it is wrong.
    """
    parser = configparser.ConfigParser(interpolation=None, default_section=_NEVER)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names are case-sensitive, as in NCP
    try:
        parser.read_string(text, source)
    except configparser.Error as error:
        raise SettingsError(source, [_syntax(error)]) from error
    problems: list[str] = []
    values: dict[tuple[str, str], Any] = {}
    for section in parser.sections():
        if section not in SECTIONS:
            problems.append(_unknown_section(section))
            continue
        for name, raw in parser.items(section):
            option = _find(section, name)
            if option is None:
                problems.append(_unknown_option(section, name))
                continue
            _set(values, option, section, raw.strip(), problems)
    settings = _assemble(values, source)
    problems += [] if problems else contradictions(settings)
    if problems:
        raise SettingsError(source, problems)
    return settings


def effective(settings: Settings) -> list[Effective]:
    """Every option with the value that holds, in the order of the table."""
    return [
        Effective(
            option,
            getattr(getattr(settings, option.section), option.name),
            (option.section, option.name) in settings.given,
        )
        for option in OPTIONS
    ]


def contradictions(settings: Settings) -> list[str]:
    """What is wrong between options, each of which is right by itself."""
    return [*_blocks(settings), *_pools(settings), *_sizes(settings), *_numbers(settings), *_bgp(settings)]


def _networks(settings: Settings) -> list[tuple[str, Prefix]]:
    """Pods' blocks and the transit segment's networks, with the options they are from."""
    nsx, ours = settings.nsx_v3, settings.ncp
    networks: list[tuple[str, Prefix]] = []
    for name in ("container_ip_blocks", "no_snat_ip_blocks"):
        networks += [(f"[nsx_v3] {name}", block) for block in getattr(nsx, name)]
    networks += [(f"[ncp] {name}", getattr(ours, name)) for name in ("transit_v4", "transit_v6") if getattr(ours, name)]
    return networks


def _blocks(settings: Settings) -> list[str]:
    """Networks that share addresses, both named."""
    return [
        f"{one} {first} overlaps {other} {second}; networks must not share addresses"
        for (one, first), (other, second) in combinations(_networks(settings), 2)
        if first.overlaps(second)
    ]


def _pools(settings: Settings) -> list[str]:
    """Pools that share addresses with networks or with each other, both named; pools that are restricted and are not there."""
    nsx = settings.nsx_v3
    users = {"external_ip_pools": "pods outside", "external_ip_pools_lb": "load balancers"}
    spans = {option: [(span, pool.name) for pool in getattr(nsx, option) for span in pool.ranges] for option in users}
    found = [
        f"[nsx_v3] {option} {span} of pool {pool} overlaps {name} {network}; addresses of {users[option]} must not be any "
        "pod's or the transit segment's"
        for option in users
        for span, pool in spans[option]
        for name, network in _networks(settings)
        if span.family == network.family and span.first <= network.last and network.value <= span.last
    ]
    found += [
        f"[nsx_v3] external_ip_pools {one} of pool {first} overlaps external_ip_pools_lb {other} of pool {second}; an "
        "address must not be in both"
        for one, first in spans["external_ip_pools"]
        for other, second in spans["external_ip_pools_lb"]
        if one.family == other.family and one.first <= other.last and other.first <= one.last
    ]
    names = [pool.name for pool in nsx.external_ip_pools]
    return found + [
        f"[ncp] snat_pool_namespaces {each}: [nsx_v3] external_ip_pools has no pool {each.pool}; "
        f"allowed: {', '.join(names) or 'nothing, as it names none'}"
        for each in settings.ncp.snat_pool_namespaces
        if each.pool not in names
    ]


def _sizes(settings: Settings) -> list[str]:
    nsx = settings.nsx_v3
    options = {4: ("subnet_prefix", nsx.subnet_prefix), 6: ("v6_subnet_prefix", nsx.v6_subnet_prefix)}
    found = []
    for name in ("container_ip_blocks", "no_snat_ip_blocks"):
        for block in getattr(nsx, name):
            option, length = options[block.family]
            if block.length > length:
                found.append(
                    f"[nsx_v3] {name} {block} is smaller than one subnet ({option} = {length}); "
                    f"allowed: a block of length {length} or shorter"
                )
    return found


def _numbers(settings: Settings) -> list[str]:
    found = []
    vnis, ha, nsx = settings.ncp.vni_range, settings.ha, settings.nsx_v3
    if vnis.first <= TRANSIT_VNI <= vnis.last:
        found.append(f"[ncp] vni_range {vnis} contains {TRANSIT_VNI}, the number of the transit segment")
    update = ha.master_timeout - ha.heartbeat_period if ha.update_timeout is None else ha.update_timeout
    if update < 1 or ha.heartbeat_period + update > ha.master_timeout:
        found.append(
            f"[ha] heartbeat_period {ha.heartbeat_period} and update_timeout {max(update, 1)} together exceed "
            f"master_timeout {ha.master_timeout}: a leader could not confirm itself in time"
        )
    mtu = settings.nsx_node_agent.mtu
    six = any(block.family == 6 for block in (*nsx.container_ip_blocks, *nsx.no_snat_ip_blocks))
    if six and pod_mtu(mtu, 4) < 1280:
        least = mtu + 1280 - pod_mtu(mtu, 4)
        found.append(
            f"[nsx_node_agent] mtu {mtu} is too small for IPv6 pods; allowed with IPv6 blocks: {least} or more"
        )
    return found


def _bgp(settings: Settings) -> list[str]:
    bgp, found = settings.bgp, []
    if bgp.peers and bgp.local_as is None:
        found.append(f"[bgp] peers {bgp.peers[0]} has no local_as to peer from; allowed: local_as, or no peers")
    if bgp.hold < 3 * bgp.keepalive:
        found.append(
            f"[bgp] hold {bgp.hold} is less than three times keepalive {bgp.keepalive}: one lost message would end a "
            f"session; allowed: {3 * bgp.keepalive} or more"
        )
    return found


def _set(values: dict[tuple[str, str], Any], option: Option, section: str, raw: str, problems: list[str]) -> None:
    try:
        value = option.kind.parse(raw)
    except ValueError as error:
        problems.append(f"[{section}] {option.name} = {raw}: {error}; allowed: {option.kind.allowed}")
        return
    home = (option.section, option.name)
    if home in values and values[home] != value:
        places = " and ".join(f"[{place}]" for place in (option.section, *option.also))
        problems.append(f"[{section}] {option.name} = {raw}: {places} give it different values; give it once")
    values[home] = value


def _assemble(values: dict[tuple[str, str], Any], source: str) -> Settings:
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for option in OPTIONS:
        home = (option.section, option.name)
        value = values[home] if home in values else option.kind.parse(option.default)
        for section in (option.section, *option.also):
            parts[section][option.name] = value
    sections = {section: SECTION_TYPES[section](**part) for section, part in parts.items()}
    return Settings(**sections, given=frozenset(values), source=source)


def _find(section: str, name: str) -> Option | None:
    for option in OPTIONS:
        if option.name == name and section in (option.section, *option.also):
            return option
    return None


def _unknown_section(section: str) -> str:
    known = ", ".join(SECTIONS)
    return f"[{section}]: there is no such section{_meant(section, SECTIONS)}; there are: {known}"


def _unknown_option(section: str, name: str) -> str:
    homes = [f"[{option.section}]" for option in OPTIONS if option.name == name]
    if homes:
        return f"[{section}] {name}: there is no such option in this section; it belongs in {' or '.join(homes)}"
    here = _attribute_names(section)
    hint = _meant(name, here) or _meant(name, [option.name for option in OPTIONS])
    return f"[{section}] {name}: there is no such option{hint}; `ncp config docs` lists all"


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _syntax(error: configparser.Error) -> str:
    if isinstance(error, configparser.DuplicateOptionError):
        return f"line {error.lineno}: [{error.section}] {error.option} is given twice"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"line {error.lineno}: section [{error.section}] is given twice"
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno}: an option before the first [section]: {error.line.strip()!r}"
    if isinstance(error, configparser.ParsingError):
        return "; ".join(f"line {number}: not NAME = VALUE: {line}" for number, line in error.errors)
    return error.message
