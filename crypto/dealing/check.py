"""The check of one dealt block by the pair that will use it: does everything in it multiply right?

When both holders have their part, each draws a nonce. The two nonces make the coin, which the dealer
could not foresee; each holder opens what it says (sacrifice.py), computes its values and sends a hash of
them with its role. A holder that finds the hash it expects keeps what comes out; any other answer means
that the dealer or the peer deviates. A coin is drawn once for a block, ever: a second one would open
units that the first one kept. DESIGN.md section 9.
"""

from __future__ import annotations

import hmac

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing.blocks import Block, BlockName
from veilmatch.crypto.dealing.checked import CheckedBlock
from veilmatch.crypto.dealing.sacrifice import BitBuckets, ProductBuckets, TripleSacrifice
from veilmatch.crypto.digests import NONCE_BYTES, digest
from veilmatch.crypto.errors import DealtStockError, ProtocolError
from veilmatch.crypto.keys.shares import dealer_of
from veilmatch.crypto.secret_access import SecretHolder


class BlockCheck(SecretHolder):
    """One holder's part in the check of a block: send `opening`, then `proof`, then `require` and take `kept`."""

    def __init__(
        self, name: BlockName, block: Block, nonces: tuple[bytes, bytes], modulus: Integer, *, is_plus: bool
    ) -> None:
        """block: of the right size (dealer.check_block). nonces: of plus and minus. Raises ProtocolError for others."""
        if {len(nonce) for nonce in nonces} != {NONCE_BYTES}:
            raise ProtocolError("a nonce of the wrong size", expected=NONCE_BYTES)
        self._name, self._is_plus = name, is_plus
        self._coin = digest("dealt coin", *_parts(name), *nonces)
        self._values: bytes | None = None
        self._sacrifice: TripleSacrifice | BitBuckets | ProductBuckets
        if name.kind == "triples":
            self._sacrifice = TripleSacrifice(block, self._coin, modulus, is_plus=is_plus)
        elif name.kind == "bits":
            self._sacrifice = BitBuckets(block, self._coin, is_plus=is_plus)
        else:
            self._sacrifice = ProductBuckets(block, self._coin, is_plus=is_plus)

    @property
    def opening(self) -> bytes:
        """What the peer gets. For the peer alone: the dealer could compute every unit that comes out anyway."""
        return self._sacrifice.opening

    def proof(self, opening: bytes) -> bytes:
        """Return the hash for the peer, given its opening. Raises ProtocolError if that cannot be one."""
        self._values = self._sacrifice.values(opening)
        return self._hash("plus" if self._is_plus else "minus")

    def kept(self, proof: bytes) -> CheckedBlock:
        """Return what comes out of the block if the peer's hash is right. Raises DealtStockError otherwise."""
        if not hmac.compare_digest(proof, self._hash("minus" if self._is_plus else "plus")):
            raise DealtStockError.of(f"keyholder-{dealer_of(self._name.pair)}", self._name.kind, self._name.number)
        return CheckedBlock(self._sacrifice.kept())

    def _hash(self, role: str) -> bytes:
        if self._values is None:
            raise ProtocolError("a check without the peer's opening")
        return digest("dealt check", role, self._coin, self._values)


def _parts(name: BlockName) -> tuple[bytes | int | str, ...]:
    return name.pair, name.stock, name.epoch, name.kind, name.number
