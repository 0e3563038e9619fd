"""``ncp verify --policy FILE``: what a policy would change, and with ``--apply`` whether exactly that happens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ncp.verify.cluster import Cluster
    from ncp.verify.preview import Preview

Json = dict[str, Any]


def preview(
    files: tuple[str, ...],
    deleted: tuple[str, ...],
    do_apply: bool,
    directory: Path | None,
    trace: Any,
    output: str,
    kubeconfig: str | None,
    state: Path | None,
    **options: Any,
) -> None:
    """Show what policies would change; with ``do_apply`` make it so and check."""
    from ncp.cli.verify import table_of
    from ncp.verify import foretold
    from ncp.verify.cluster import Cluster
    from ncp.verify.manifests import once
    from ncp.verify.preview import preview as foresee

    wanted = once([each for name in files for each in _read(name)])
    gone = {_key(each) for each in deleted}
    if both := sorted(gone & wanted.keys()):
        raise click.UsageError(f"{both[0]} is to be applied and to be deleted; allowed: one of the two")
    if output == "junit":
        raise click.UsageError("--output junit is for tables; allowed with --policy: table, wide, json")
    with Cluster(kubeconfig, state) as cluster:
        made = {key: _made(cluster, key, each) for key, each in wanted.items()}
        _, probes = table_of(cluster.site, **options)
        foreseen = foresee(cluster.site, made, gone, probes)
        if not do_apply:
            foretold.show(foreseen, output, len(probes))
            return
        if output != "json":
            foretold.show(foreseen, output, len(probes))
        _apply(cluster, foreseen, wanted, gone)
        wrong = _check(cluster, foreseen, probes, trace, output, directory)
        if output == "json":
            foretold.show(foreseen, output, len(probes), wrong)
        else:
            foretold.show_departures(wrong)
    if wrong:
        sys.exit(1)


def _key(text: str) -> str:
    """A policy's key as sections have it."""
    from ncp.verify.errors import Refused
    from ncp.verify.policies import parse_key

    try:
        resource, namespace, name = parse_key(text)
    except Refused as error:
        raise click.BadParameter(str(error), param_hint="--delete") from error
    return f"{resource.kind}/{namespace}/{name}"


def _read(name: str) -> list[Json]:
    from ncp.verify.manifests import policies_in

    try:
        text = click.get_text_stream("stdin").read() if name == "-" else Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise click.BadParameter(f"{name}: {reason}", param_hint="--policy") from error
    return policies_in(text, name)


def _made(cluster: Cluster, key: str, policy: Json) -> Json:
    """A policy as the API server would have it."""
    from ncp.kube.errors import Invalid, NotFound
    from ncp.verify.errors import Refused

    try:
        return cluster.apply(policy, dry_run=True)
    except NotFound as error:
        raise Refused(f"{key}: {error}") from error
    except Invalid as error:
        raise Refused(f"the API server would not take {key}: {error}") from error


def _apply(cluster: Cluster, foreseen: Preview, wanted: dict[str, Json], gone: set[str]) -> None:
    from ncp.verify.policies import parse_key

    made = [cluster.apply(each) for each in wanted.values()]
    for key in sorted(gone):
        cluster.remove(*parse_key(key))
    site = cluster.look()
    for each in made:
        cluster.await_policy(each, site)
    cluster.await_flows(site)


def _check(
    cluster: Cluster, foreseen: Preview, probes: list[Any], trace: Any, output: str, directory: Path | None
) -> list[str]:
    """What did not happen as foreseen, in words."""
    from ncp.cli.verify import is_silent
    from ncp.probe import run
    from ncp.verify.afterwards import departures
    from ncp.verify.saving import DIRECTORY, save

    site = cluster.site
    found = departures(site, foreseen)
    results = run.ask(site, probes, quiet=is_silent(output), trace=trace)
    wrong = [each for each in results if not each.agrees]
    found += [f"{each.probe}: intent, flows and wire do not agree" for each in wrong]
    if wrong:
        files = save(site, wrong, directory or DIRECTORY)
        found.append(f"saved: {', '.join(map(str, files))}")
    said = {each.probe: each.expected for each in results}
    return found + [
        f"{turn.probe}: foreseen {turn.after.answer} ({turn.after.why}), it is {said[turn.probe].answer}"
        for turn in foreseen.turns
        if (said[turn.probe].answer, said[turn.probe].causes) != (turn.after.answer, turn.after.causes)
    ]
