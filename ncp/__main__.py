"""The command ``ncp``: one entry, its subcommands loaded when they are asked for."""

from __future__ import annotations

import difflib
import importlib
import os
import select
import sys
import traceback
from typing import Any, Final, NamedTuple

import click


class Command(NamedTuple):
    """Where a subcommand lives (``module:attribute``), and its line in ``ncp --help``."""

    target: str
    summary: str


COMMANDS: Final[dict[str, Command]] = {
    "get": Command("ncp.cli.get:command", "Show pods, segments, routers, flows, problems, ..."),
    "probe": Command("ncp.cli.probe:command", "Ask intent, flows and wire the same question."),
    "verify": Command("ncp.cli.verify:command", "Prove policies: truth tables, a conformance suite, previews."),
    "lab": Command("ncp.cli.lab:command", "Run a whole cluster on this host."),
    "config": Command("ncp.cli.config:command", "Check, show and document ncp.ini."),
    "manager": Command("ncp.cli.manager:command", "Run the manager: decides subnets and addresses."),
    "node": Command("ncp.cli.node:command", "Run the agent of one node: programs its switch."),
    "version": Command("ncp.cli.version:command", "Show the version of this program and what it runs on."),
}


class Lazy(click.Group):
    """A group that imports a subcommand when it is run: the node agent must not pay for what it does not use."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run; when whoever read our output has seen enough, that is no failure."""
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            if not _reader_left():
                raise
            # What is still buffered has nowhere to go: the interpreter would complain when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(0) from None
        return found

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the subcommand."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].target.partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and say what was probably meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(COMMANDS)}"
            raise click.UsageError(f"no such command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Software-defined networking for Kubernetes on Open vSwitch.

    Exit codes: 0 done; 1 the operation or check failed, and the last line says what; 2 wrong usage or configuration.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code. Nothing a user types leads to a traceback."""
    try:
        code = cli.main(arguments, prog_name="ncp", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except Exception as error:
        return _explain(error)


def _reader_left() -> bool:
    """Whether the pipe that standard output goes into has no reader any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _explain(error: Exception) -> int:
    """One line for an error that is known, and for others a hint where to find more."""
    if os.environ.get("NCP_DEBUG"):
        traceback.print_exception(error)
    code = _known(error)
    if code is not None:
        return _fail(str(error), code)
    text = f"{type(error).__name__}: {error}"
    return _fail(f"unexpected error: {text} (NCP_DEBUG=1 shows where)", 1)


def _known(error: Exception) -> int | None:
    """The exit code of an error whose text is meant for people; None for any other."""
    from ipam.block import BlockError
    from ncp.cli.nodeapi import AgentError
    from ncp.kube.access import AccessError
    from ncp.kube.errors import ApiError
    from ncp.settings import SettingsError

    if isinstance(error, SettingsError | AccessError | BlockError):
        return 2
    if isinstance(error, ApiError | AgentError | OSError):
        return 1
    return None


def _fail(text: Any, code: int) -> int:
    click.echo(f"ncp: {text}", err=True)
    return code


if __name__ == "__main__":
    main()
