"""What one deviating organisation gets: `python -m tests.hostile [--json PATH]`.

`--ceremonies` is of key ceremonies alone: the table of docs/ceremony.md.

Real sessions over toy keys, each attack with its check taken out and with it in. First servers that deviate alone: what
comes of an honest device's request, that what servers see does not depend on what it holds (alone.py); what they
read without a device (checked.py); and key holders in the check of dealt blocks (dealt_blocks.py), while new shares
are made (recovering.py) and in a key ceremony (ceremonies.py). Then servers with an enrolled device (checked.py,
together.py, tests/attacks).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from structlog.testing import capture_logs

from tests.attacks.test_bad_triples import Dealer
from tests.crypto.toys import TOY, keys_of
from tests.hostile.alone import WORK, faces, run, two_vectors
from tests.hostile.ceremonies import CEREMONY_DEVIATIONS, IN_TURN, altering_in_turn
from tests.hostile.checked import ALONE, WITH_A_DEVICE
from tests.hostile.dealt_blocks import BLOCK_DEVIATIONS, outcome
from tests.hostile.deviations import DEVIATIONS
from tests.hostile.recovering import RECOVERY_DEVIATIONS, messages_in_turn
from tests.hostile.recovering import outcome as recovered
from tests.hostile.together import GateInputsOfItsChoice, LanesOfItsChoice, ResultsOfItsChoice, flipped_answer
from tests.simulator import SimulatedGallery
from veilmatch.crypto.parameters import DEFAULT

#: What budgets let a device, a gallery and a subject have in a day (docs/budgets.md).
SEARCHES_A_DAY, GALLERY_SEARCHES_A_DAY, VERIFICATIONS_A_DAY = 100, 1000, 60
#: Of each request and vector.
RUNS = 3
#: Of a search so many messages are altered, evenly; of all else all.
SEARCHES = 8


def main() -> None:
    """Run everything, print three tables, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ceremonies", action="store_true", help="only key ceremonies and new shares")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = of_ceremonies() if options.ceremonies else of_all()
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def of_ceremonies() -> dict[str, Any]:
    """Key ceremonies, and new shares of a key."""
    return {"in_a_ceremony": in_ceremonies(), "while_new_shares_are_made": in_recoveries()}


def of_all() -> dict[str, Any]:
    """Everything."""
    return {
        "alone": alone(),
        "alone_by_check": [attack.row() for attack in ALONE],
        "in_the_check_of_a_block": in_block_checks(),
        **of_ceremonies(),
        "with_a_device": [attack.row() for attack in WITH_A_DEVICE] + together(),
    }


def alone() -> list[dict[str, Any]]:
    """Every deviation in every request in which it can be, with two vectors that a server would tell apart."""
    keys, rows = keys_of("stand-in"), []
    for deviation in DEVIATIONS:
        outcomes: Counter[str] = Counter()
        equal = True
        for work in (w for w in WORK if w.kind in deviation.where):
            runs = [run(keys, deviation, work, vector) for vector in two_vectors(work, TOY) for _ in range(RUNS)]
            outcomes.update(outcome for outcome, _ in runs)
            equal &= all(seen == runs[0][1] for _, seen in runs)
        rows.append({
            "who": deviation.who, "does": deviation.what, "in": list(deviation.where), "outcomes": dict(outcomes),
            "servers_see_the_same": equal,
        })  # fmt: skip
    return rows


def in_block_checks() -> list[dict[str, Any]]:
    """Every deviation in the check of a block, with openings believed and with the dealer's commitments to them."""
    rows = []
    with TemporaryDirectory(prefix="veilmatch-hostile-") as folder, capture_logs():
        for i, deviation in enumerate(BLOCK_DEVIATIONS):
            found = [str(outcome(deviation, Path(folder) / f"{i}{x}", believing=x)) for x in (True, False)]
            rows.append({
                "who": deviation.who, "does": deviation.what, "without_its_check": found[0], "with_it": found[1],
            })  # fmt: skip
    return rows


def in_ceremonies() -> list[dict[str, Any]]:
    """Every deviation in a key ceremony, with its check and, where there is one, without; and messages in turn."""
    rows = []
    for deviation in CEREMONY_DEVIATIONS:
        found = {}
        for out in (True, False) if deviation.check else (False,):
            with pytest.MonkeyPatch.context() as patch:
                found[out] = in_words(deviation.run(patch, out))
        rows.append({
            "who": deviation.who, "does": deviation.what, "without_its_check": found.get(True, ""),
            "with_it": found[False],
        })  # fmt: skip
    for what, rounds, make in IN_TURN:
        chosen = range(rounds) if rounds < 100 else range(5, rounds, rounds // SEARCHES)
        with pytest.MonkeyPatch.context() as patch:
            found_of = altering_in_turn(chosen, make, patch, False)
        rows.append({
            "who": "anyone", "does": f"flips a bit of {what}, {found_of.total()} of them in turn",
            "without_its_check": "", "with_it": in_words(found_of),
        })  # fmt: skip
    return rows


def in_words(found: Counter[str]) -> str:
    """What happened, with how often if it was not always the same."""
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{count} {what}" for what, count in found.most_common())


def in_recoveries() -> list[dict[str, Any]]:
    """Every deviation while new shares are made, with and without what the honest two compare."""
    rows = [
        {
            "who": deviation.who, "does": deviation.what,
            "without_its_check": str(recovered(deviation, believing=True)),
            "with_it": str(recovered(deviation, believing=False)),
        }
        for deviation in RECOVERY_DEVIATIONS
    ]  # fmt: skip
    found = messages_in_turn()
    rows.append({
        "who": "anyone", "does": f"flips a bit of a message, {found.total()} of them in turn",
        "without_its_check": "", "with_it": in_words(found),
    })  # fmt: skip
    return rows


def together() -> list[dict[str, Any]]:
    """Attacks that need answers, and are closed elsewhere or not at all."""
    keys = keys_of("paillier")
    templates, _, stranger = faces(TOY)
    gallery = SimulatedGallery.of(keys.scheme, templates[: TOY.slots])
    dealer = Dealer(keys)
    dealer.scores()
    matcher = ResultsOfItsChoice(keys, gallery, own=stranger)
    read = np.array_equal(matcher.read(), templates[: TOY.slots])
    with pytest.MonkeyPatch.context() as patch:
        holder = GateInputsOfItsChoice(keys, gallery, patch)
        scored = np.array_equal(holder.scores(stranger), templates[: TOY.slots] @ stranger)
    with pytest.MonkeyPatch.context() as patch:
        lanes = LanesOfItsChoice(keys, gallery, stranger, patch)
        template_read = np.array_equal(lanes.read((0, 0)), templates[0])
    flipped = flipped_answer(keys, gallery, stranger, 1)
    whole = DEFAULT.dimension * (2 * DEFAULT.clip).bit_length()
    days = -(-whole // SEARCHES_A_DAY), -(-whole // GALLERY_SEARCHES_A_DAY)
    gallery_read = (
        f"not closed: all templates, {matcher.queries} queries at D={TOY.dimension}, c={TOY.clip}; {whole} "
        f"at the default set: {days[0]} days of one device's budget, {days[1]} of a gallery's"
    )
    one_template = (
        f"not closed: a template that its device verifies, {lanes.queries} verifications; {whole} at the default set: "
        f"{-(-whole // VERIFICATIONS_A_DAY)} days of a subject's budget"
    )
    scores = f"not closed: exact scores of its probes, {holder.queries} queries (k = {TOY.ring_bits})"
    acceptance = "not closed: a refusal becomes an acceptance, 1 query"
    rows = [
        ("dealer", "deals products that are off", f"exact scores of its probes, {dealer.queries} queries",
         "refused before use (tests/attacks/test_bad_triples.py)"),
        ("anyone", "signs a ciphertext of somebody else", "passes as that person, 1 query",
         "refused (tests/attacks/test_replayed_ciphertexts.py)"),
        ("an organisation", "makes up a device", "served by the others",
         "refused by the others (tests/attacks/test_uncertified_device.py)"),
        ("matcher", "chooses the results", "", gallery_read if read else "nothing"),
        ("key holder", "chooses its gate inputs", "", scores if scored else "nothing"),
        ("key holder", "chooses its lanes of a probe", "", one_template if template_read else "nothing"),
        ("any server", "flips its share of an answer", "", acceptance if flipped else "nothing"),
    ]  # fmt: skip
    return [dict(zip(("who", "does", "without_its_check", "with_it"), row, strict=True)) for row in rows]


def show(figures: dict[str, Any]) -> None:
    """Print all tables."""
    console = Console(width=150)
    if "alone" in figures:
        show_alone(console, figures)
    titles = {
        "alone_by_check": "alone, by a check",
        "in_the_check_of_a_block": "in the check of dealt blocks",
        "in_a_ceremony": "in a key ceremony",
        "while_new_shares_are_made": "while a lost key holder is replaced",
        "with_a_device": "with an enrolled device",
    }
    for name, title in titles.items():
        table = Table("who", "does", "without its check", "with it", title=title)
        for row in figures.get(name, ()):
            table.add_row(*row.values())
        if table.row_count:
            console.print(table)


def show_alone(console: Console, figures: dict[str, Any]) -> None:
    """Print what comes of an honest device's requests."""
    table = Table("who", "does", "in", "outcomes", "servers see the same", title="alone, whatever a request holds")
    for row in figures["alone"]:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in row["outcomes"].items())
        where = ", ".join(row["in"])
        table.add_row(row["who"], row["does"], where, outcomes, "yes" if row["servers_see_the_same"] else "NO")
    console.print(table)


if __name__ == "__main__":
    main()
