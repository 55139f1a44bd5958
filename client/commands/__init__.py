"""The command line `veilmatch`.

Exit status: 0 success or match; 1 no match; 2 wrong usage; 3 input that cannot be what was meant (photo,
subject, configuration); 4 request refused; 5 another key, gallery or model; 6 a party is missing;
7 state or files that contradict themselves; 8 face model missing; 9 a budget is used up; 10 anything
unforeseen; 130 Ctrl-C.
3 to 10 are `exit_status` of the classes in `veilmatch.crypto.errors`.

Commands are the modules of this package, and the entry points of the group `veilmatch.commands`, where the
daemons put theirs: so neither side imports the other. Each has `register(app)`.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from veilmatch.client import extras
from veilmatch.client.commands._output import report, unforeseen
from veilmatch.crypto.errors import VeilmatchError

ENTRY_POINT_GROUP = "veilmatch.commands"
#: Order of the commands in the help; others follow by name.
_ORDER = ("enrol", "verify", "identify", "candidates", "subjects", "erase", "rotate", "models")

_HELP = """Private face matching: only this device learns the decision.

Exit status: 0 success or match, 1 no match, 2 wrong usage, 3 unusable input, 4 refused, 5 other key or
gallery, 6 a party is missing, 7 integrity, 8 face model missing, 9 budget used up, 10 unforeseen, 130 interrupted."""


def main() -> None:
    """Run the command line; the entry point of the console script."""
    build_app()()


def build_app() -> typer.Typer:
    """Return the application with every command that is installed."""
    app = typer.Typer(
        name="veilmatch",
        help=_HELP,
        cls=ReportingGroup,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_show_locals=False,  # local variables hold embeddings
        rich_markup_mode=None,
    )
    app.callback()(_global_options)
    for name in _own_modules():
        import_module(f"{__name__}.{name}").register(app)
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.name):
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

    _as_json = False

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Run, remembering whether any command was asked for JSON, even one that fails while parsing."""
        given = list(sys.argv[1:] if args is None else args)
        self._as_json = "--json" in given[: given.index("--") if "--" in given else len(given)]
        return super().main(args, *more, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the sub-command."""
        try:
            return super().invoke(ctx)
        except VeilmatchError as error:
            self._fail(error)
        except (typer.Abort, EOFError, BrokenPipeError):
            raise
        except ModuleNotFoundError as error:
            self._fail(extras.explained(error))
        except Exception as error:
            # Exit and usage errors have a status of their own, whichever library they are from. Anything
            # else would end as Python's status 1, which means "no match" here.
            if hasattr(error, "exit_code"):
                raise
            self._fail(unforeseen(error))

    def _fail(self, error: VeilmatchError) -> None:
        report(error, as_json=self._as_json)
        raise typer.Exit(error.exit_status)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"veilmatch {version('veilmatch')}")
        raise typer.Exit


_Version = Annotated[
    bool,
    typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
]


def _global_options(show_version: _Version = False) -> None:
    """Options that stand before the command."""


def _own_modules() -> list[str]:
    names = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]
    return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def _register_missing(app: typer.Typer, name: str, error: VeilmatchError) -> None:
    def missing() -> None:
        raise error

    app.command(
        name,
        help=f"Not installed: {error.expected}",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    )(missing)
