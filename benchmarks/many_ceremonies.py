"""Many key ceremonies of three parties, in memory: what fails and why, and their primes beside a dealer's.

    python benchmarks/many_ceremonies.py                           1000 of 512 bits (UNSAFE): some hours of a core
    python benchmarks/many_ceremonies.py --ceremonies 50 --processes 1 --json PATH
    python benchmarks/many_ceremonies.py --gather PATH             appends each to a file, and begins with those there

The sessions are those of a ceremony on the day, without a network. This program plays all three parties, so that it
can put their shares together and see p, q, P and Q, which no party can. Each key is checked with them by plain
arithmetic. Then it makes as many pairs of primes as the dealer's ceremony makes them, and compares: sizes, residues
modulo small primes (chi-square, of both and of each with what is uniform), and how often each bit is set.

A failure counts as explained if the argument of the search foresees it, with its probability (`EXPLAINED`). Anything
else, and any key that is not sound, ends with exit status 1.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

import gmpy2
import numpy as np
from ceremony import expected_tests
from machine import cpu
from rich.console import Console
from rich.table import Table
from scipy.stats import chi2_contingency, chisquare, norm

from veilmatch.crypto.ceremony.joint.search import Factors, find_factors
from veilmatch.crypto.ceremony.joint.sizes import Sizes
from veilmatch.crypto.ceremony.joint.steps import JointKey, key_steps
from veilmatch.crypto.ceremony.rounds import Steps
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.session import Message, Session, Told
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Party
from veilmatch.crypto.parameters import SUBGROUP_BITS, ParameterSet
from veilmatch.crypto.rings.primes import special_prime
from veilmatch.crypto.secret_access import SECRET_ACCESS

#: Errors that the argument of the search foresees, by how their message begins, and how often they come at 512 bits.
#: There are 118,968,378 composites below 2^64 that pass base 2 (Feitsma), about one for 2^31 primes of the size of p.
EXPLAINED = {
    "too few primes in the search of a key ceremony": "the search gave up: 2^-12",
    "a number in a key ceremony that another key holder let pass": "a composite p has passed base 2: 2^-28 of a pool",
    "the modulus of a key ceremony is not a product of two primes": "a composite P has passed base 2, or a truncation"
    " went wrong: 2^-30",
    "the generator of a key ceremony has too small an order": "h has a smaller order: 2^-62",
}
SMALL_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23)
#: Below this, a p-value is one that chance alone gives in fewer than one of a thousand tables.
SUSPICIOUS = 1e-3
#: The bits at the top are those of a range, and not uniform by design.
_TOP_BITS = 8


@dataclass(frozen=True)
class Primes:
    """small: p, q. large: P, Q."""

    small: list[int]
    large: list[int]


@dataclass
class Outcome:
    """Of one ceremony. failed: the first error, if it failed. unsound: what of its key does not hold."""

    cpu_s: float = 0.0
    rounds: int = 0
    batches: int = 0
    small_tested: int = 0
    large_tested: int = 0
    large_prime: int = 0
    failed: str = ""
    unsound: list[str] = field(default_factory=list)
    primes: Primes | None = None


class OpenSession(Session[JointKey]):
    """One party's session, step for step that of a ceremony, which keeps its part of the factors to be looked at."""

    def __init__(self, party: Party, parameters: ParameterSet, outcome: Outcome) -> None:
        self.factors: Factors | None = None
        sizes = Sizes(parameters)

        def steps(seat: Seat, told: Told) -> Steps[JointKey]:
            self.factors = yield from find_factors(seat.named("search"), sizes)
            return (yield from key_steps(seat, self.factors, sizes, told))

        def reached(part: str, _rounds: int) -> None:
            if party != "a":
                return
            outcome.batches += bool(re.fullmatch(r"large candidates, batch \d+", part))
            if found := re.search(r"(small|large).*: (\d+) (tested|prime)", part):
                name = f"{found[1]}_{found[3]}"
                setattr(outcome, name, getattr(outcome, name) + int(found[2]))

        super().__init__(party, digest("benchmark of many ceremonies", parameters.name), steps, reached)


def main(arguments: Sequence[str]) -> int:
    """Hold them, print and write what came of them; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ceremonies", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--bits", type=int, choices=SUBGROUP_BITS, default=512, help="of the modulus")
    parser.add_argument("--processes", type=int, default=2, help="that hold them (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file; without the primes")
    parser.add_argument(
        "--gather", type=Path, help="a file of JSON lines, one a ceremony: those in it count, and more join"
    )
    options = parser.parse_args(arguments)
    console, outcomes = Console(), gathered(options.gather)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for done in pool.imap_unordered(held, [options.bits] * (options.ceremonies - len(outcomes))):
            outcomes.append(done)
            if options.gather:
                with options.gather.open("a") as file:
                    # Behind whatever a run before has left of a line.
                    file.write("\n" + json.dumps(asdict(done)))
            if done.failed or done.unsound or len(outcomes) % 50 == 0:
                print(f"{len(outcomes)} held; {done.failed} {done.unsound or ''}", file=sys.stderr, flush=True)
        dealers = pool.map(dealt, [options.bits] * sum(one.primes is not None for one in outcomes))
    figures = compared(options.bits, outcomes, dealers)
    show(console, figures)
    if options.json:
        document = {"cpu": cpu(), "cores": os.cpu_count(), "command": [Path(__file__).name, *arguments]} | figures
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if figures["unexplained"] or figures["unsound"] else 0


def gathered(path: Path | None) -> list[Outcome]:
    """Return what earlier runs have gathered in a file. A last line that was cut off does not count."""
    found = []
    for line in path.read_text().splitlines() if path is not None and path.exists() else ():
        with suppress(json.JSONDecodeError):
            fields = json.loads(line)
            primes = fields.pop("primes")
            found.append(Outcome(**fields, primes=Primes(**primes) if primes else None))
    return found


def held(bits: int) -> Outcome:
    """Hold one ceremony of all three parties, and check its key with its factors."""
    outcome, begun = Outcome(), process_time()
    sessions = {party: OpenSession(party, ParameterSet(modulus_bits=bits), outcome) for party in PARTIES}
    try:
        said = {party: sessions[party].start() for party in PARTIES}
        while not all(session.finished for session in sessions.values()):
            outcome.rounds += 1
            said = {party: sessions[party].resume(_arrived(sessions[party], said)) for party in PARTIES}
    except VeilmatchError as error:
        outcome.failed = str(error)
    else:
        outcome.primes = _put_together(sessions)
        outcome.unsound = _faults(sessions, outcome.primes)
    outcome.cpu_s = process_time() - begun
    return outcome


def _arrived(session: OpenSession, said: dict[Party, Any]) -> dict[Party, Message]:
    return {peer: said[peer][session.party] for peer in session.awaited}


def _put_together(sessions: dict[Party, OpenSession]) -> Primes:
    """Return what the three have shares of."""
    parts = [session.factors for session in sessions.values() if session.factors]
    small, cofactors = ([sum(map(int, shares)) for shares in zip(*(x[k].ahead for x in parts), strict=True)]
                        for k in (0, 1))  # fmt: skip
    return Primes(small, [2 * p * cofactor + 1 for p, cofactor in zip(small, cofactors, strict=True)])


def _faults(sessions: dict[Party, OpenSession], primes: Primes) -> list[str]:
    """Return what does not hold of a key: everything that somebody with all shares can check."""
    made = {party: session.result for party, session in sessions.items()}
    keys = {party: one.key for party, one in made.items() if one}
    (public_key,) = {one.public_key for one in made.values() if one}
    (p, q), (P, Q), N = primes.small, primes.large, int(public_key.modulus)
    o, hs, square = 2 * p * q, public_key.hs, N * N
    checks = {
        "p, q, P and Q are prime": all(map(gmpy2.is_prime, (p, q, P, Q))),
        "N = PQ": N == P * Q and N.bit_length() == public_key.parameters.modulus_bits,
        "P and Q are 3 mod 4": P % 4 == Q % 4 == 3,
        "the base has order o": gmpy2.powmod(hs, o, square) == 1
        and all(gmpy2.powmod(hs, o // f, square) != 1 for f in (2, p, q)),
        "o has its size": o.bit_length() == public_key.subgroup_order_bits,
        "gcd(P - 1, Q - 1) is 2": math.gcd(P - 1, Q - 1) == 2,
    }
    for pair in PAIRS:
        plus, minus = (keys[party].share(pair) for party in PARTIES if party in pair)
        checks[f"shares of {pair} of o"] = (
            plus.stored_exponent(SECRET_ACCESS) - minus.stored_exponent(SECRET_ACCESS) == o
        )
        checks[f"shares of {pair} of kappa"] = (plus.kappa(SECRET_ACCESS) - minus.kappa(SECRET_ACCESS)) * o % N == 1
    return [name for name, holds in checks.items() if not holds]


def dealt(bits: int) -> Primes:
    """Return primes of the ceremony with a dealer."""
    factor_bits = ParameterSet(modulus_bits=bits).subgroup_bits // 2
    while True:
        P, Q = (special_prime(bits // 2, factor_bits) for _ in range(2))
        if gmpy2.gcd(P.prime - 1, Q.prime - 1) == 2:
            return Primes([int(P.factor), int(Q.factor)], [int(P.prime), int(Q.prime)])


# -- figures -------------------------------------------------------------------------------------------------


def compared(bits: int, outcomes: list[Outcome], dealers: list[Primes]) -> dict[str, Any]:
    """Return all figures."""
    failures = Counter(one.failed for one in outcomes if one.failed)
    explained = {text: _explanation(text) for text in failures}
    small, large = expected_tests(ParameterSet(modulus_bits=bits))
    tested, prime = (sum(getattr(one, name) for one in outcomes) for name in ("large_tested", "large_prime"))
    made = [one.primes for one in outcomes if one.primes]
    return {
        "bits": bits,
        "ceremonies": len(outcomes),
        "keys": len(made),
        "failures": [{"error": x, "count": n, "explained": explained[x]} for x, n in failures.items()],
        "unexplained": sum(n for x, n in failures.items() if not explained[x]),
        "unsound": [asdict(one)["unsound"] for one in outcomes if one.unsound],
        "cpu_s_each": sum(one.cpu_s for one in outcomes) / len(outcomes),
        "batches": dict(sorted(Counter(one.batches for one in outcomes).items())),
        "rounds_least": min((one.rounds for one in outcomes if one.primes), default=0),
        "small_tested": sum(one.small_tested for one in outcomes),
        "large_tested": tested,
        "large_prime": prime,
        "large_tested_for_a_prime": tested / max(prime, 1),
        "large_expected_for_a_prime": large,
        "small_expected_for_a_prime": small,
        "distributions": {
            name: distribution([x for one in made for x in getattr(one, kind)],
                               [x for one in dealers for x in getattr(one, kind)], first)
            for name, kind, first in (("p", "small", 1), ("P", "large", 2))
        } if made else {},
    }  # fmt: skip


def _explanation(failure: str) -> str:
    return next((why for start, why in EXPLAINED.items() if failure.startswith(start)), "")


def distribution(ours: list[int], theirs: list[int], first: int) -> dict[str, Any]:
    """Compare numbers of a joint ceremony with a dealer's. first: the least residue that they can have."""
    bits = max(ours).bit_length()
    rows = []
    for r in SMALL_PRIMES:
        if r - first < 2:
            continue
        counts = [np.bincount([x % r for x in numbers], minlength=r) for numbers in (ours, theirs)]
        assert not any(int(one[:first].sum()) for one in counts), "a residue that none can have"
        possible = np.array([one[first:] for one in counts])
        seen = possible[:, possible.sum(axis=0) > 0]
        rows.append({
            "modulo": r, "ours": possible[0].tolist(), "dealers": possible[1].tolist(),
            "p_alike": float(chi2_contingency(seen).pvalue), "p_uniform": float(chisquare(possible[0]).pvalue),
        })  # fmt: skip
    # P is 3 mod 4, p odd; what is above is uniform but for the range.
    places = range(first, bits - _TOP_BITS)
    ones = np.array([sum(x >> k & 1 for x in ours) for k in places])
    worst = float(np.max(np.abs(ones - len(ours) / 2)) / math.sqrt(len(ours) / 4))
    unit = float(1 << bits)
    return {
        "numbers": len(ours),
        "bits": {"ours": sorted({x.bit_length() for x in ours}), "dealers": sorted({x.bit_length() for x in theirs})},
        "of_the_largest": {
            name: {"least": min(x) / unit, "mean": sum(x) / len(x) / unit, "most": max(x) / unit}
            for name, x in (("ours", ours), ("dealers", theirs))
        },
        "distinct": len(set(ours)),
        "residues": rows,
        "bits_set": {"places": len(places), "worst_z": worst,
                     "p_worst": float(-np.expm1(len(places) * np.log1p(-2 * norm.sf(worst))))},
    }  # fmt: skip


def show(console: Console, figures: dict[str, Any]) -> None:
    """Print the figures as people read them."""
    console.print(
        f"{figures['ceremonies']} ceremonies of {figures['bits']} bits: {figures['keys']} keys, "
        f"{len(figures['unsound'])} unsound, {sum(one['count'] for one in figures['failures'])} failures, "
        f"{figures['unexplained']} of them unexplained; {figures['cpu_s_each']:.1f} s of CPU each"
    )
    for one in figures["failures"]:
        console.print(f"  {one['count']} x {one['error']}: {one['explained'] or 'NOT EXPLAINED'}")
    console.print(
        f"batches: {figures['batches']}; {figures['large_tested']} P tested, {figures['large_prime']} prime: one in "
        f"{figures['large_tested_for_a_prime']:.1f}, expected {figures['large_expected_for_a_prime']:.1f}"
    )
    for name, one in figures["distributions"].items():
        table = Table("", "joint", "dealer", "alike, p", "joint uniform, p", title=f"{one['numbers']} {name} of each")
        sizes, of = one["bits"], one["of_the_largest"]
        table.add_row("bits", str(sizes["ours"]), str(sizes["dealers"]), "", "")
        spans = [f"{x['least']:.3f} {x['mean']:.3f} {x['most']:.3f}" for x in (of["ours"], of["dealers"])]
        table.add_row("least, mean, most of 2^bits", *spans, "", "")
        for row in one["residues"]:
            counts = [" ".join(map(str, row[x])) if row["modulo"] < 10 else "" for x in ("ours", "dealers")]
            values = _marked(row["p_alike"]), _marked(row["p_uniform"])
            table.add_row(f"residues modulo {row['modulo']}", *counts, *values)
        bits, worst = one["bits_set"], f"{one['bits_set']['worst_z']:.1f} sigma"
        table.add_row(f"worst of {bits['places']} bits", worst, "", "", _marked(bits["p_worst"]))
        console.print(table)


def _marked(p: float) -> str:
    return f"{p:.3f}{' !' if p < SUSPICIOUS else ''}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
