"""The command line `veilmatch`.

Exit status: 0 success or match; 1 no match, and nothing else; 2 wrong usage; 3 input that cannot be what was meant
(photo, subject, configuration), or part of a folder was left out; 4 request refused; 5 another key, gallery or model;
6 a party is missing; 7 state or files that contradict themselves; 8 face model missing; 9 a budget is used up;
10 anything unforeseen; 11 done, and it could not be printed; 12 servers overloaded; 13 the three pairs disagree; 130
Ctrl-C, or a question answered with no; 143 SIGTERM.
3 to 13 are `exit_status` of the classes in `veilmatch.crypto.errors`.

Commands are the modules of this package, and the entry points of the group `veilmatch.commands`, where the
daemons put theirs: so neither side imports the other. Each has `register(app)`. Nothing of them is imported before
`main` stands around it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; the entry point of the console script.

    Until `run` stands around it, Ctrl-C ends the process as it ends one without a handler: Python 3.11 makes
    RuntimeError of a KeyboardInterrupt that comes while a class is made, and ends with 1. For the same reason nothing
    is imported here before, and modules on the way to this one import nothing that makes classes.
    """
    import _signal  # type: ignore[import-not-found]  # `signal` itself makes classes

    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # and not ignored, as in the background
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from veilmatch.common.process import run

    run(_commands)


def _commands() -> None:
    import sys

    from veilmatch.client.commands.base.application import build_app

    build_app(only=sys.argv[1] if len(sys.argv) > 1 else None)()
