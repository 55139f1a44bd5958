"""What the key-safety check adds to a session, for each key holder: CPU time by step, beside that of its conversions.

    python benchmarks/checks.py                    a verification and a search over 80 packs, default parameter set
    python benchmarks/checks.py --packs 1 8 80     other sizes
    python benchmarks/checks.py --json PATH        writes the figures as well

The functions are those that a key holder runs (crypto/pair/key_safety.py), under the key of a fresh ceremony, with
tagged triples from a dealer; every proof that is timed is accepted by the other holder. Medians of one core's CPU time.
"Beside conversions" is the share of what the holder computes to convert the same ciphertexts: secret powers, logarithms
and the Beaver multiplication. What the checks add to the time of a whole verification, over real daemons, is printed by
`python benchmarks/gates.py --verify`.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import cpu
from rich.console import Console
from rich.table import Table
from system import median

from veilmatch.crypto.arithmetic import Integer, random_bits
from veilmatch.crypto.dealing import BLOCK_UNITS, BlockName, deal_tagged, tagged_triples
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.keys.ceremony import Ceremony, run_ceremony
from veilmatch.crypto.pair import key_safety
from veilmatch.crypto.pair.conversion import open_masked, output_share
from veilmatch.crypto.pair.key_safety import Conversion, TaggedTriple
from veilmatch.crypto.parameters import DEFAULT, ParameterSet
from veilmatch.crypto.rings.choice import choose
from veilmatch.crypto.secret_access import SECRET_ACCESS

REPEATS = 9
#: Numbers in a holder's CPU milliseconds, as the table names them.
STEPS = {"combine_s": "c*", "powers_s": "two secret powers", "proofs_s": "weights, proof, comparison"}


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default=DEFAULT.name, help="parameter set (default: %(default)s)")
    parser.add_argument("--packs", type=int, nargs="+", default=[1, 80], help="results of a session (default: 1 80)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    parameters = ParameterSet.from_name(options.parameters)
    most = BLOCK_UNITS["triples"] - parameters.lane_ciphertexts
    if not all(1 <= packs <= most for packs in options.packs):
        parser.error(f"--packs takes numbers from 1 to {most}")
    pair = Pair.of(run_ceremony(parameters))
    figures: dict[str, Any] = {
        "cpu": cpu(), "backend": choose().backend, "parameter_set": parameters.name,
        "sessions": [session(pair, packs) for packs in options.packs],
    }  # fmt: skip
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


@dataclass(frozen=True, eq=False, repr=False)
class Pair:
    """The plus and the minus holder of a pair: keys and a block of triples."""

    scheme: Paillier
    exponents: tuple[Integer, Integer]
    kappas: tuple[Integer, Integer]
    safety: tuple[key_safety.SafetyShare, key_safety.SafetyShare]
    triples: tuple[list[TaggedTriple], list[TaggedTriple]]

    @staticmethod
    def of(ceremony: Ceremony) -> Pair:
        """Return the pair ab, to which c has dealt."""
        key, (a, b, c) = ceremony.public_key, ceremony.keys
        seed, name = c.dealing_seed(SECRET_ACCESS), BlockName("ab", secrets.token_bytes(32), 1, "triples", 0)
        plus, minus = (
            tagged_triples(
                deal_tagged(seed, name, key.modulus, c.dealer_gammas(SECRET_ACCESS), for_plus=for_plus),
                0, BLOCK_UNITS["triples"], key.modulus,
            )
            for for_plus in (True, False)
        )  # fmt: skip
        shares = a.share("ab"), b.share("ab")
        return Pair(
            Paillier(key),
            (shares[0].exponent(key, SECRET_ACCESS), shares[1].exponent(key, SECRET_ACCESS)),
            (shares[0].kappa(SECRET_ACCESS), shares[1].kappa(SECRET_ACCESS)),
            (a.safety("ab"), b.safety("ab")),
            (plus, minus),
        )

    def convert(self, ciphertexts: Sequence[Integer]) -> tuple[list[Conversion], list[Conversion]]:
        """Return what either holder knows after the conversion of these ciphertexts."""
        N = self.scheme.modulus
        local = [self.scheme.local_shares(ciphertexts, exponent) for exponent in self.exponents]
        opened = [
            [open_masked(x.z, kappa, t, N) for x, t in zip(mine, triples, strict=False)]
            for mine, kappa, triples in zip(local, self.kappas, self.triples, strict=True)
        ]
        plus, minus = (
            [
                Conversion(c, x.z, triple, theirs)
                for c, x, triple, theirs in zip(ciphertexts, local[i], self.triples[i], opened[1 - i], strict=False)
            ]
            for i in (0, 1)
        )
        return plus, minus


def session(pair: Pair, packs: int) -> dict[str, Any]:
    """The figures of one key holder in a session about one probe and `packs` results."""
    scheme, key, N = pair.scheme, pair.scheme.public_key, pair.scheme.modulus
    ciphertexts = scheme.encrypt_zeros(scheme.parameters.lane_ciphertexts + packs)
    ciphertexts = [scheme.multiply(c, scheme.encode(random_bits(64))) for c in ciphertexts]
    both = pair.convert(ciphertexts)
    session_id, *coins = (secrets.token_bytes(32) for _ in range(3))
    weights = key_safety.draw_weights(session_id, coins[0], coins[1], len(ciphertexts))
    terms = key_safety.combination(both[0], weights)
    c_star = [scheme.combine(*terms)]
    exponents = [share.exponents(key, SECRET_ACCESS) for share in pair.safety]
    stars = [[scheme.local_shares(c_star, t)[0].z for t in of_holder] for of_holder in exponents]
    theirs = key_safety.proof(both[1], weights, stars[1][1], pair.safety[1], N)

    def powers() -> None:
        scheme.local_shares_each([c_star[0]] * len(exponents[0]), exponents[0])

    def proofs() -> None:
        drawn = key_safety.draw_weights(session_id, coins[0], coins[1], len(ciphertexts))
        key_safety.combination(both[0], drawn)
        key_safety.proof(both[0], drawn, stars[0][1], pair.safety[0], N)
        expected = key_safety.expected_proof(both[0], drawn, stars[0][0], pair.safety[0], N)
        if not key_safety.proofs_agree(theirs, expected):
            raise RuntimeError("an honest proof was refused")

    def conversions() -> None:
        for x, done in zip(scheme.local_shares(ciphertexts, pair.exponents[0]), both[0], strict=True):
            mine = open_masked(x.z, pair.kappas[0], done.triple, N)
            output_share(done.triple, mine, done.theirs, N, is_plus=True)

    steps = {
        "combine_s": median(lambda: scheme.combine(*terms), REPEATS, time.process_time),
        "powers_s": median(powers, REPEATS, time.process_time),
        "proofs_s": median(proofs, REPEATS, time.process_time),
    }
    conversions_s = median(conversions, REPEATS, time.process_time)
    check_s = sum(steps.values())
    return {
        "packs": packs, "ciphertexts": len(ciphertexts), **steps, "check_s": check_s,
        "conversions_s": conversions_s, "beside_conversions": check_s / conversions_s,
        "sent_bytes": len(coins[0]) + len(theirs),
    }  # fmt: skip


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(
        "packs", *STEPS.values(), "key-safety check", "conversions", "beside conversions", "sent, bytes",
        title=f"{figures['parameter_set']}, {figures['backend']}: one key holder, CPU ms",
    )  # fmt: skip
    for column in table.columns:
        column.justify = "right"
    for f in figures["sessions"]:
        times = [f"{1e3 * f[name]:.1f}" for name in (*STEPS, "check_s", "conversions_s")]
        table.add_row(str(f["packs"]), *times, f"{100 * f['beside_conversions']:.0f} %", str(f["sent_bytes"]))
    Console(file=sys.stdout, width=130).print(table)
    print(f"{figures['cpu']}")


if __name__ == "__main__":
    main()
