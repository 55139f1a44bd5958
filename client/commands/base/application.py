"""The application: every command that is installed, and what becomes of everything that they raise."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import veilmatch.client.commands as package
from veilmatch.client import extras
from veilmatch.client.given.quoting import quoted_path
from veilmatch.common import output
from veilmatch.common.native_logs import keep_grpc_quiet
from veilmatch.common.process import INTERRUPTED, interrupted
from veilmatch.common.tls_versions import speak_nothing_before_tls_1_3
from veilmatch.crypto.errors import VeilmatchError

ENTRY_POINT_GROUP = "veilmatch.commands"
#: Order of the commands in the help; others follow by name.
_ORDER = (
    "quality", "enrol", "verify", "identify", "candidates", "known", "issue", "card", "subjects", "budgets", "erase",
    "rotate", "compare", "models",
)  # fmt: skip
_WRONG_USAGE = 2
#: No message about wrong usage is longer, unless it quotes long arguments.
_USAGE_CHARACTERS = 160

_HELP = """Private face matching: only this device learns the decision.

Exit status: 0 success or match, 1 no match, 2 wrong usage, 3 unusable input or part of a folder was left out, 4
refused, 5 other key or gallery, 6 a party is missing, 7 integrity, 8 face model missing, 9 budget used up, 10
unforeseen, 11 not printed, 12 overloaded, 13 the pairs disagree, 130 interrupted, 143 terminated."""


def build_app(only: str | None = None) -> typer.Typer:
    """Return the application with every command that is installed.

    only: the name of a command. If it is one, the others are neither imported nor there: most of the time until a
    command begins went into libraries of other commands. Any other word has the application with all of them.
    """
    keep_grpc_quiet()
    speak_nothing_before_tls_1_3()
    app = typer.Typer(
        name="veilmatch",
        help=_HELP,
        cls=ReportingGroup,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # nothing but SystemExit leaves
        rich_markup_mode=None,
    )
    app.callback()(_global_options)
    own = _own_modules()
    if only in own:
        import_module(f"{package.__name__}.{only}").register(app)
        return app
    points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name)
    if wanted := [point for point in points if point.name == only]:
        own, points = [], wanted
    for name in own:
        import_module(f"{package.__name__}.{name}").register(app)
    for point in points:
        register_entry_point(app, point)
    return app


def register_entry_point(app: typer.Typer, point: EntryPoint) -> None:
    """Add the commands of an entry point.

    Where an extra that it names in brackets is not installed, or another library that it imports, a command of its name
    says on use what to install. Where the module itself is missing, as in a package without daemons, nothing is added.
    """
    if lacking := extras.problem(*point.extras):
        _register_missing(app, point.name, lacking)
        return
    try:
        register = point.load()
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("veilmatch"):
            _register_missing(app, point.name, extras.explained(error))
        return
    register(app)


class ReportingGroup(TyperGroup):
    """The outermost command: turns every error into a panel, JSON if wanted, and an exit status."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Run a command and end with SystemExit, and with nothing else."""
        given = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in given[: given.index("--") if "--" in given else len(given)]
        with output.standard_streams():
            try:
                # Typer itself would end with 1 at a closed pipe and after an aborted question.
                status = super().main(given, *more, **options | {"standalone_mode": False})
                status = status if isinstance(status, int) else 0
            except typer.Abort:
                output.say("interrupted")
                status = INTERRUPTED
            except SystemExit as end:
                if end.code != 1:
                    raise
                status = _told(output.unforeseen(end), as_json)  # of a library: here it would mean "no match"
            except BaseException as error:
                status = _outcome(error, given, as_json)
        raise SystemExit(status)

    def invoke(self, ctx: Any) -> Any:
        """Run the sub-command."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            raise output.unforeseen(error) from error  # Typer takes a broken pipe for the end of its output


def _outcome(error: BaseException, given: Sequence[str], as_json: bool) -> int:
    """Report what ended a command with these arguments; return the exit status."""
    if interrupted(error):
        output.say("interrupted")
        return INTERRUPTED
    if isinstance(error, ModuleNotFoundError):
        error = extras.explained(error)
    if isinstance(error, VeilmatchError):
        return _told(error, as_json)
    # A usage error, of whichever library: Typer brings its own copy of click.
    if hasattr(error, "exit_code") and hasattr(error, "show") and hasattr(error, "message"):
        if as_json:
            text = error.format_message() if hasattr(error, "format_message") else error.message
            command = getattr(getattr(error, "ctx", None), "command_path", "veilmatch")
            usage = VeilmatchError(_without_photos(text, given), hint=f"`{command} --help` says what it takes.")
            document = output.error_document(usage) | {"code": "usage", "exit_status": _WRONG_USAGE}
            with suppress(VeilmatchError):
                output.show_json({"error": document}, done="wrong usage")
        error.message = _without_photos(error.message, given)
        error.show(file=sys.stderr)
        return _WRONG_USAGE
    return _told(output.unforeseen(error), as_json)


def _without_photos(message: str, given: Sequence[str]) -> str:
    """Return what is said of wrong arguments, which it may quote, with the length of each that may be a photo."""
    values = (part for argument in given for part in (argument, argument.lstrip("-"), argument.partition("=")[2]))
    hidden = {value: quoted_path(value) for value in values if quoted_path(value) != value}
    for value in sorted(hidden, key=len, reverse=True):
        message = message.replace(value, hidden[value])
    # Control characters are quoted in other forms.
    return message if not hidden or len(message) <= _USAGE_CHARACTERS else "the arguments are not those of the command"


def _told(error: VeilmatchError, as_json: bool) -> int:
    try:
        output.report(error, as_json=as_json)
    except Exception:  # no memory left, say: the status still tells
        with suppress(OSError):
            os.write(2, f"{error.code}\n".encode())
    return error.exit_status


def _print_version(wanted: bool) -> None:
    if wanted:
        output.show(f"veilmatch {version('veilmatch')}", done="this is Veilmatch")
        raise typer.Exit


_Version = Annotated[
    bool,
    typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
]


def _global_options(show_version: _Version = False) -> None:
    """Options that stand before the command."""


def _own_modules() -> list[str]:
    names = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg]
    return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def _register_missing(app: typer.Typer, name: str, error: VeilmatchError) -> None:
    def missing() -> None:
        raise error

    app.command(
        name,
        help=f"Not installed: {error.expected}",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    )(missing)
