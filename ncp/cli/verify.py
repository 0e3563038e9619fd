"""``ncp verify``: truth tables proven three ways, the conformance suite, cases asked again, and previews of policies."""

from __future__ import annotations

import functools
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from ncp.probe.model import Probe, Result
    from ncp.probe.site import Site

PROTOCOLS: Final = ("tcp", "udp", "sctp", "icmp", "neighbour")
FORMATS: Final = ("table", "wide", "json", "junit")
WHERE: Final = (
    click.option("--kubeconfig", default=None, help="Default: KUBECONFIG, else the lab's."),
    click.option("--state", type=click.Path(path_type=Path), default=None, help="The lab's state directory."),
)
FAMILY: Final = click.option("--family", multiple=True, type=click.Choice(["4", "6"]), help="Default: both.")
SAVE: Final = click.option(
    "--save",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Where case files go.  [default: verify-cases]",
)
OUTPUT: Final = click.option("-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True)


def _trace(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--trace",
        type=click.Choice(["all", "sample", "none"]),
        default=default,
        show_default=True,
        help="Which probes the flows are asked about.",
    )


class Failure(click.ClickException):
    """What could not be done, with its exit code."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def where(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which cluster; what goes wrong there becomes an exit code."""

    @functools.wraps(function)
    def command(*arguments: Any, **options: Any) -> Any:
        from ncp.verify.errors import VerifyError
        from sdn.openflow.values import SwitchGone, SwitchTimeout
        from sdn.ovsdb.appctl import AppctlError

        try:
            return function(*arguments, **options)
        except VerifyError as error:
            raise Failure(str(error), error.exit_code) from error
        except (AppctlError, SwitchGone, SwitchTimeout) as error:
            raise Failure(str(error), 1) from error

    for option in reversed(WHERE):
        command = option(command)
    return command


@click.group("verify", invoke_without_command=True)
@click.option("-n", "--namespace", multiple=True, help="Only pods of these namespaces; repeatable.")
@click.option("--pod", "pods", multiple=True, metavar="NAMESPACE/POD", help="Only these pods; repeatable.")
@click.option("--port", "ports", multiple=True, type=click.IntRange(1, 65535), help="Default: what each pod serves.")
@click.option("--protocol", multiple=True, type=click.Choice(PROTOCOLS), help="Default: all.")
@FAMILY
@click.option("--external", is_flag=True, help="With the host beyond tier-0 as source and destination.")
@click.option("--nodes", is_flag=True, help="With the nodes themselves as sources and destinations.")
@_trace("all")
@SAVE
@click.option(
    "-f",
    "--policy",
    "files",
    multiple=True,
    metavar="FILE",
    help="Preview these policies (- is standard input) instead; repeatable.",
)
@click.option(
    "--delete", "deleted", multiple=True, metavar="KIND/NS/NAME", help="Preview without this policy; repeatable."
)
@click.option(
    "--apply", "do_apply", is_flag=True, help="After the preview make it so, and check that exactly this happened."
)
@OUTPUT
@where
@click.pass_context
def command(context: click.Context, **options: Any) -> None:
    """Prove who reaches whom: what the intent, the programmed flows and the wire say of every pair, port and protocol.

    Every disagreement is saved as a small case file that `ncp verify replay` can ask again. With --policy it tells what a
    policy that is not applied yet would change.

    Exit codes: 0 all agree (or all happened as previewed), 1 they do not, 2 wrong usage or a faulty policy.
    """  # fmt: skip
    if context.invoked_subcommand is not None:
        given = [
            name for name in options if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        ]
        if given:
            raise click.UsageError(f"{context.invoked_subcommand} takes its options after its name", context)
        return
    if options["files"] or options["deleted"]:
        from ncp.cli.preview import preview

        preview(**options)
    elif options["do_apply"]:
        raise click.UsageError("--apply needs --policy FILE or --delete KIND/NS/NAME")
    else:
        _table(**options)


def _table(
    directory: Path | None, trace: Any, output: str, kubeconfig: str | None, state: Path | None, **options: Any
) -> None:
    from ncp.probe import run
    from ncp.verify import report
    from ncp.verify.saving import DIRECTORY

    site = run.site(kubeconfig, state)
    with site.switches:
        names, probes = table_of(site, **options)
        started = time.monotonic()
        results = run.ask(site, probes, quiet=is_silent(output), trace=trace)
        report.show(results, names, output, time.monotonic() - started)
        finish(site, results, directory or DIRECTORY)


def table_of(
    site: Site,
    namespace: tuple[str, ...],
    pods: tuple[str, ...],
    ports: tuple[int, ...],
    protocol: tuple[Any, ...],
    family: tuple[str, ...],
    external: bool,
    nodes: bool,
    **_: Any,
) -> tuple[list[str], list[Probe]]:
    """The names and probes that the options ask for."""
    from ncp.probe.model import EXTERNAL, NODE, is_host
    from ncp.probe.site import matrix

    known = sorted(name for name in site.endpoints if not is_host(name))
    _known("--pod", pods, known, "no logical port is called so; `ncp get ports` lists them")
    _known("--namespace", namespace, {name.split("/")[0] for name in known}, "no pod of that namespace has a port")
    if protocol and not ports and not set(protocol) & set(PROTOCOLS):
        raise click.UsageError("nothing is asked")
    names = [
        name for name in known if (not pods or name in pods) and (not namespace or name.split("/")[0] in namespace)
    ]
    if external:
        _known("--external", (EXTERNAL,), site.endpoints, "no host beyond tier-0 is within reach")
        names.append(EXTERNAL)
    if nodes:
        names += sorted(name for name in site.endpoints if name.startswith(NODE) and site.endpoints[name].netns)
    families = tuple(int(each) for each in family) or (4, 6)
    probes = matrix(site, names, families, protocol or PROTOCOLS, ports)
    if not probes:
        raise Failure("there is nothing to probe: fewer than two ends match, or nothing is served there", 1)
    return names, probes


def _known(option: str, named: tuple[str, ...], known: Any, otherwise: str) -> None:
    for each in named:
        if each not in known:
            raise click.BadParameter(f"{each}: {otherwise}", param_hint=option)


def is_silent(output: str) -> bool:
    """Whether an output is for machines, so that nothing else is shown."""
    return output in ("json", "junit")


def finish(site: Site, results: list[Result], directory: Path) -> None:
    """Save what disagrees, and exit with 1 if anything does."""
    from ncp.verify.saving import save

    wrong = [each for each in results if not each.agrees]
    if wrong:
        files = save(site, wrong, directory)
        text = f"{len(wrong)} of {len(results)} probes disagree; the first: {wrong[0].probe}; saved: {', '.join(map(str, files))}"
        click.echo(text, err=True)
        sys.exit(1)


# -- replay ---------------------------------------------------------------------------------------------------------


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@OUTPUT
@where
def replay(files: tuple[Path, ...], output: str, kubeconfig: str | None, state: Path | None) -> None:
    """Ask saved cases again: their pods and policies are made under names of their own, and removed afterwards.

    Exit code 1 where anybody does not say what a file expects.
    """
    from ncp.verify.cluster import Cluster
    from ncp.verify.reading import read
    from ncp.verify.replay import replay as ask_again
    from ncp.verify.reporting import show_replayed

    cases = []
    for path in files:
        try:
            cases.append((path, read(path.read_text(), str(path))))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise click.BadParameter(f"{path}: {reason}", param_hint="FILES") from error
    with Cluster(kubeconfig, state) as cluster:
        asked = [ask_again(cluster, case, str(path)) for path, case in cases]
    show_replayed(asked, output)
    wrong = [each for each in asked if not each.is_good]
    if wrong:
        click.echo(f"{len(wrong)} of {len(asked)} cases disagree; the first: {wrong[0].file}", err=True)
        sys.exit(1)


# -- suite ----------------------------------------------------------------------------------------------------------


def _prefix(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """A prefix that names of namespaces may begin with: one more letter follows."""
    if value is not None and not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,61}", value):
        allowed = "1 to 62 lower case letters, digits and -, of which - does not come first"
        raise click.BadParameter(f"{value!r}; allowed: {allowed}", context, option)
    return value


@command.command()
@click.option("--list", "only_list", is_flag=True, help="Show the cases and their steps; run none.")
@click.option(
    "--only",
    metavar="PATTERN",
    default="",
    help="Cases whose name, or one of whose features or events, is like this: 'peer-*'.",
)
@FAMILY
@_trace("sample")
@SAVE
@click.option(
    "--prefix",
    default=None,
    callback=_prefix,
    metavar="TEXT",
    help="Before x, y and z in the names of the namespaces.  [default: verify-]",
)
@click.option("--keep", is_flag=True, help="Leave the nine pods when done.")
@OUTPUT
@where
def suite(
    only_list: bool,
    only: str,
    family: tuple[str, ...],
    trace: Any,
    directory: Path | None,
    prefix: str | None,
    keep: bool,
    output: str,
    kubeconfig: str | None,
    state: Path | None,
) -> None:
    """Run the conformance suite: every feature of policies alone and in pairs, with changes in the course of a case.

    Nine pods in three namespaces serve two ports over TCP, UDP and SCTP; after every step the whole table is asked, over
    IPv4 and IPv6, and disagreements are saved.
    """  # fmt: skip
    from ncp.verify import reporting
    from ncp.verify.cases import cases, chosen
    from ncp.verify.ground import PREFIX, example
    from ncp.verify.saving import DIRECTORY
    from ncp.verify.suite import Wish

    wanted = chosen(cases(example(prefix or PREFIX)), only)
    if not wanted:
        raise click.BadParameter(
            f"{only!r}: no case, feature or event is like that; --list shows them", param_hint="--only"
        )
    if only_list:
        reporting.show_cases(wanted, output)
        return
    families = tuple(int(each) for each in family) or (4, 6)
    wish = Wish(families, trace, directory or DIRECTORY, prefix or PREFIX)
    started = time.monotonic()
    asked = _run(wish, [case.name for case in wanted], keep, output, kubeconfig, state)
    reporting.show_suite(asked, output, time.monotonic() - started)
    wrong = list(dict.fromkeys(each.case for each in asked if not each.is_good))
    if wrong:
        click.echo(f"{len(wrong)} of {len(wanted)} cases fail; the first: {wrong[0]}", err=True)
        sys.exit(1)


def _run(wish: Any, names: list[str], keep: bool, output: str, kubeconfig: str | None, state: Path | None) -> list[Any]:
    """Play cases with the stage set up before, and (but for ``keep``) taken down after."""
    from ncp.probe.progress import Meter
    from ncp.verify.cluster import Cluster
    from ncp.verify.suite import Stage, play

    asked = []
    with Cluster(kubeconfig, state) as cluster, Meter(quiet=is_silent(output)) as meter:
        stage = Stage(cluster, wish)
        try:
            stage.build()
            for each in play(stage, names):
                asked.append(each)
                meter.tell("cases", names.index(each.case) + 1, len(names))
        finally:
            if keep:
                stage.restore()
            else:
                stage.strike()
    return asked
