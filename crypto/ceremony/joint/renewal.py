"""New shares of a key that is there: for a fresh machine in the place of one that was lost, or for all three.

Two holders of one pair that have their shares share these among all three: the difference is o, and kappa, which nobody
sees. From there on it is the end of a ceremony (key_shares.py): new shares of all three pairs, new Gammas and tags,
tested. What was dealt before is independent of what is dealt now, so a share of before fits none of these.

Nobody can bring in another o or kappa than that of the key: test conversions are of the public key, whose hs^o is 1,
and give the plaintext only if kappa*o is 1 mod N. Of the three pairs, which all test, one is of two that follow.
docs/recovery.md.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony.handing_out import holders
from veilmatch.crypto.ceremony.joint.key_shares import Own, Secrets, dealt_key
from veilmatch.crypto.ceremony.joint.sizes import Sizes
from veilmatch.crypto.ceremony.replicated import share
from veilmatch.crypto.ceremony.rounds import Steps, together
from veilmatch.crypto.ceremony.seats import Reached, Seat
from veilmatch.crypto.ceremony.session import Session, Told, compared
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import KeyMismatchError, ParameterError
from veilmatch.crypto.keys.parties import Pair, Party, pairs_without
from veilmatch.crypto.keys.shares import SEED_BYTES, KeyHolderKey
from veilmatch.crypto.secret_access import SECRET_ACCESS

VERSION = 2
_ROUNDS = 18
#: The epoch of new shares is so many after that of the old ones. One is left out: it may be that of a refresh which was
#: interrupted, and of which the lost machine has shares.
EPOCHS = 2
#: The header of a key has 32 bits for it.
_LAST_EPOCH = (1 << 32) - 1


@dataclass(frozen=True)
class Renewal:
    """What the three agree on before. epoch: of the new shares. lost: whose place a fresh machine takes, if any.

    agreement: 32 bytes, of whatever else has to be the same at all three.
    """

    public_key: PublicKey
    epoch: int
    lost: Party | None
    agreement: bytes

    @property
    def source(self) -> Pair:
        """The pair whose old shares are taken."""
        return pairs_without(self.lost)[0] if self.lost else "ab"

    @property
    def room(self) -> Integer:
        """Above every integer that is computed modulo it, as in a ceremony."""
        return Sizes(self.public_key.parameters).room

    def about(self) -> bytes:
        """Return the digest of all of this."""
        return digest("renewal", VERSION, self.public_key.key_id, self.epoch, self.lost or "", self.agreement)


def renewed_epoch(epoch: int) -> int:
    """Return the epoch of new shares, given that of the old ones. Raises ParameterError if there is none left."""
    if epoch + EPOCHS > _LAST_EPOCH:
        raise ParameterError("no epoch is left for new shares", got=epoch, expected=f"< {_LAST_EPOCH}")
    return epoch + EPOCHS


class RenewalSession(Session[KeyHolderKey]):
    """One party's side. key: what this party had before; None at a fresh machine.

    Raises KeyMismatchError if the key is of another party, public key or epoch, or is missing at one that is not the
    fresh machine.
    """

    def __init__(
        self, party: Party, renewal: Renewal, key: KeyHolderKey | None, reached: Reached | None = None
    ) -> None:
        """reached: hears which part begins, for people who wait."""
        if (key is None) != (party == renewal.lost):
            raise KeyMismatchError("a renewal of a key that this party has no part of", got=party)
        if key is not None and (
            (key.party, key.key_id) != (party, renewal.public_key.key_id) or key.epoch >= renewal.epoch
        ):
            raise KeyMismatchError("a renewal of another key or epoch", got=key.epoch, expected=f"< {renewal.epoch}")
        super().__init__(party, renewal.about(), lambda seat, told: renewal_steps(seat, renewal, key, told), reached)


def renewal_steps(seat: Seat, renewal: Renewal, key: KeyHolderKey | None, told: Told) -> Steps[KeyHolderKey]:
    """Return this party's new key. Raises what `dealt_key` and `compared` raise; nothing of it may be used then."""
    seat.reached("new shares", _ROUNDS)
    shared = yield from shared_secrets(seat.named("old"), renewal, key)
    # The key of a party's own storage stays, where there is one.
    storage = key.storage_seed(SECRET_ACCESS) if key else secrets.token_bytes(SEED_BYTES)
    own = Own(secrets.token_bytes(SEED_BYTES), storage, renewal.epoch)
    made = yield from dealt_key(seat, renewal.public_key, shared, own)
    yield from compared(seat, seat.digest("renewed", renewal.about(), told()))
    return made


def shared_secrets(seat: Seat, renewal: Renewal, key: KeyHolderKey | None) -> Steps[Secrets]:
    """Return shared o and kappa, from the shares of the source pair. One round.

    o is an integer modulo `Renewal.room`. What a party receives of another's share is uniform.
    """
    plus, minus = holders(renewal.source)
    room, N = renewal.room, renewal.public_key.modulus
    o_plus, o_minus, kappa_plus, kappa_minus = yield from together([
        share(seat.named(f"{what} of {owner}"), owner, _own(seat, renewal, key, owner, what), 1, modulus)
        for what, modulus in (("o", room), ("kappa", N))
        for owner in (plus, minus)
    ])  # fmt: skip
    return Secrets(o_plus.plus(o_minus.times(-1)), kappa_plus.plus(kappa_minus.times(-1)))


def _own(seat: Seat, renewal: Renewal, key: KeyHolderKey | None, owner: Party, what: str) -> list[Integer]:
    if seat.party != owner or key is None:
        return []
    old = key.share(renewal.source)
    return [old.stored_exponent(SECRET_ACCESS) if what == "o" else old.kappa(SECRET_ACCESS)]
