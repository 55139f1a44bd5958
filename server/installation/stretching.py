"""From a passphrase to a key: scrypt, at a cost that makes every guess expensive.

Used for the sealed key file and for the key of the TLS authority, which lie under the same passphrase: the cheaper
of the two would be the cost of guessing it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from veilmatch.crypto.errors import KeyFileError, UnavailableError
from veilmatch.crypto.parameters import SAFE_MODULUS_BITS, ParameterSet
from veilmatch.server.installation.passphrase import passphrase_bytes

KEY_BYTES = 32


@dataclass(frozen=True)
class ScryptCost:
    """Cost of trying one passphrase: n = 2^log2_n. The default takes about 0.4 s and 128 MiB."""

    log2_n: int = 17
    r: int = 8
    p: int = 1

    def check(self) -> ScryptCost:
        """Return self if the cost is one that a file may ask for: at most 1 GiB. Raises KeyFileError."""
        if not (10 <= self.log2_n <= 20 and 1 <= self.r <= 8 and 1 <= self.p <= 4):
            raise KeyFileError(
                "the key file asks for an unreasonable scrypt cost",
                got=f"n 2^{self.log2_n}, r {self.r}, p {self.p}",
                expected="n 2^10..2^20, r 1..8, p 1..4",
            )
        return self


DEFAULT_COST = ScryptCost()
#: Of an installation whose modulus is too small for real faces anyway: its daemons start at once.
_COST_OF_TOYS = ScryptCost(10, 1, 1)


def cost_for(parameters: ParameterSet) -> ScryptCost:
    """Return the cost that guessing a passphrase of an installation is worth."""
    return DEFAULT_COST if parameters.modulus_bits in SAFE_MODULUS_BITS else _COST_OF_TOYS


def stretch(passphrase: str, salt: bytes, cost: ScryptCost) -> bytes:
    """Return 32 bytes derived from a passphrase and a salt.

    Raises KeyFileError for an unreasonable cost, ConfigurationError if the passphrase is not text, UnavailableError
    if memory is too short.
    """
    cost.check()
    try:
        scrypt = Scrypt(salt=salt, length=KEY_BYTES, n=1 << cost.log2_n, r=cost.r, p=cost.p)
        return scrypt.derive(passphrase_bytes(passphrase))
    except MemoryError:
        needed = f"{(cost.r << cost.log2_n) >> 13} MiB"
        raise UnavailableError("too little memory to derive a key from the passphrase", needed=needed) from None
