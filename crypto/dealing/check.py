"""The check of one dealt block by the pair that will use it: does everything in it multiply right, are the tags right?

When both holders have their part, each draws a nonce. The two nonces make the coin, which the dealer could not foresee.
Each holder opens what it says (sacrifice.py, tag_check.py), and the dealer, now asked for this coin, commits to what
the *other* one must open (opening.py). A holder whose peer has opened just that computes its values and sends a hash of
them with its role; if it finds the hash that it expects, it keeps what comes out.

Why the commitment: values depend on what was received. A holder that altered its opening would make the other's hash
depend on bits of the other's triples, could guess these offline, and then send the hash that fits. With it, a holder
makes values from nothing but the opening that its peer must send. If one party deviates at most, that is sound: an
altered opening does not fit the commitment of an honest dealer, and wrong units of a dealer show in the values of two
honest holders (buckets.py says how likely not).

Who is named. An opening that does not fit names the peer, values that differ name the dealer. Neither is certain: a
dealer can commit to something else than it has dealt, and a peer can send a hash of something else than its values.
Whoever finds it knows that one of the two deviates, and that it is not itself.

The dealer learns the coin, after the last moment at which it could have used it: both have their part, and neither asks
for that block again. Where the units that come out will lie in the stock it does not learn: words are put into another
order, which depends on the nonces and not on the coin. A coin is drawn once for a block, ever: a second one would open
units that the first one kept. docs/security-argument.md.
"""

from __future__ import annotations

import hmac

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing.blocks import Block, BlockName
from veilmatch.crypto.dealing.checked import CheckedBlock
from veilmatch.crypto.dealing.opening import SALT_BYTES, commitment, name_parts, sacrifice_of, salted
from veilmatch.crypto.digests import NONCE_BYTES, digest
from veilmatch.crypto.errors import DealtOpeningError, DealtStockError, ProtocolError
from veilmatch.crypto.keys.parties import dealer_of
from veilmatch.crypto.secret_access import SecretHolder


class BlockCheck(SecretHolder):
    """One holder's part in the check of a block: send `opening`, ask the dealer for a commitment under `coin`, send
    `proof`, and take what is `kept`."""

    def __init__(
        self,
        name: BlockName,
        block: Block,
        nonces: tuple[bytes, bytes],
        modulus: Integer,
        gamma: Integer,
        *,
        is_plus: bool,
    ) -> None:
        """block: of the right size (tags.check_tagged_block). nonces: of plus and minus. gamma: under which this holder
        verifies the other one (SafetyShare).

        Raises ProtocolError for others.
        """
        if {len(nonce) for nonce in nonces} != {NONCE_BYTES}:
            raise ProtocolError("a nonce of the wrong size", expected=NONCE_BYTES)
        self._name, self._is_plus = name, is_plus
        #: 32 bytes for the dealer, too. It does not tell the nonces.
        self.coin = digest("dealt coin", *name_parts(name), *nonces)
        self._order = digest("dealt order", *name_parts(name), *nonces)
        self._sacrifice = sacrifice_of(block, name.kind, self.coin, modulus, gamma, is_plus=is_plus)
        self._values: bytes | None = None
        #: What the peer gets. For the peer alone.
        self.opening = salted(self._sacrifice, block.seed, self.coin)

    def proof(self, opening: bytes, committed: bytes) -> bytes:
        """Return the hash for the peer, given its opening and what the dealer has committed to.

        Raises DealtOpeningError, and computes nothing, if the opening is not the one that the dealer means.
        """
        mine = commitment(self._name, self.coin, opening, of_plus=not self._is_plus)
        if not hmac.compare_digest(mine, committed):
            message = (
                f"{self._peer} opened other values in the check of {self._name.kind} than {self._dealer} has dealt"
            )
            raise DealtOpeningError(message, party=self._peer, got=self._block)
        self._values = self._sacrifice.values(opening[SALT_BYTES:])
        return self._hash("plus" if self._is_plus else "minus")

    def kept(self, proof: bytes) -> CheckedBlock:
        """Return what comes out of the block if the peer's hash is right. Raises DealtStockError otherwise."""
        if not hmac.compare_digest(proof, self._hash("minus" if self._is_plus else "plus")):
            message = f"{self._name.kind} dealt by {self._dealer} did not pass the check"
            raise DealtStockError(message, party=self._dealer, got=self._block)
        return CheckedBlock(self._sacrifice.kept(self._order))

    @property
    def _peer(self) -> str:
        return f"keyholder-{self._name.pair[1 if self._is_plus else 0]}"

    @property
    def _dealer(self) -> str:
        return f"keyholder-{dealer_of(self._name.pair)}"

    @property
    def _block(self) -> str:
        return f"{self._name.kind} block {self._name.number} of {self._dealer}"

    def _hash(self, role: str) -> bytes:
        if self._values is None:
            raise ProtocolError("a check without the peer's opening")
        return digest("dealt check", role, self.coin, self._values)
