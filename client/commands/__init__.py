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

from typing import NoReturn

from veilmatch.common.process import run


def main() -> NoReturn:
    """Run the command line; the entry point of the console script."""
    run(_commands)


def _commands() -> None:
    from veilmatch.client.commands.base.application import build_app

    build_app()()
