"""What anybody can find out about a public key: `veilmatch key check`.

A public key does not show how it was made. What can be checked without its secret is checked here, and said with what
follows from it and what does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.arithmetic import is_power, jacobi
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import KeyFileError
from veilmatch.crypto.parameters import SAFE_MODULUS_BITS
from veilmatch.server.ceremony.record import CeremonyRecord


@dataclass(frozen=True)
class Shown:
    """One thing that was checked and holds. proves: what follows from it; leaves: what does not."""

    what: str
    proves: str
    leaves: str


def check_public_key(path: Path, record: Path | None = None) -> tuple[PublicFile, list[Shown]]:
    """Return the public file, and what holds of it. record: ceremony.json, if there is one.

    Raises what `read_public_file` raises; KeyFileError if the key cannot come from a ceremony; what
    `CeremonyRecord.read` raises, and IntegrityError if the record is not of this key or not signed by all three.
    """
    public = read_public_file(path)
    key = public.public_key
    N, bits = key.modulus, key.parameters.modulus_bits
    size = "" if bits in SAFE_MODULUS_BITS else ", which is too small for real faces"
    found = [
        Shown(
            f"the modulus has {bits} bits{size}, is odd, no prime, and has no factor below 2^20",
            "it is none of the moduli that fall at once",
            "that it has two prime factors of the same size",
        )
    ]
    _require(not is_power(N), "modulus", "no power of a number")
    found.append(
        Shown("the modulus is no power", "it has two different prime factors at least", "that it has only two")
    )
    _require(N % 4 == 1, "modulus", "1 modulo 4, as a product of two primes of 3 modulo 4")
    _require(jacobi(key.hs % N, N) == 1, "base", "a number of Jacobi symbol 1")
    found.append(
        Shown(
            "the base of encryption is a unit, neither 1 nor -1 modulo any factor, of Jacobi symbol 1",
            "encryption with it hides something",
            "its order, and so that it hides enough: that is for the three organisations to have checked",
        )
    )
    if record is not None:
        CeremonyRecord.read(record).require_of(public)
        found.append(
            Shown(
                "all three organisations whose keys are in the file have signed that they made this key together",
                "if two of the three were honest, no machine ever had the key, and each pair has tested it",
                "anything if two of them lie; that the keys are theirs: compare their introductions",
            )
        )
    return public, found


def _require(holds: bool, what: str, expected: str) -> None:
    if not holds:
        raise KeyFileError(f"the {what} of the public key is unsound", expected=expected)
