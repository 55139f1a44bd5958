"""Shared factors of a toy key, and sessions that begin with them: what comes after the search."""

from __future__ import annotations

from tests.crypto.ceremony.table import of_parts
from tests.crypto.toys import TOY, toy_key
from veilmatch.crypto.arithmetic import Integer, random_bits
from veilmatch.crypto.ceremony.joint.search import Factors
from veilmatch.crypto.ceremony.joint.sizes import Sizes
from veilmatch.crypto.ceremony.joint.steps import JointKey, key_steps
from veilmatch.crypto.ceremony.session import Session
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.digests import digest
from veilmatch.crypto.keys.parties import PARTIES, Party


def shared_integers(values: list[int]) -> dict[Party, Shared]:
    """Integers as sums of three shares that are not negative, of which one is odd if they are."""
    parts = {party: [2 * random_bits(value.bit_length() - 4) for value in values] for party in ("a", "c")}
    rest = [Integer(value) - sum(x) for value, x in zip(values, zip(*parts.values(), strict=True), strict=True)]
    return of_parts({"a": parts["a"], "b": rest, "c": parts["c"]}, None)


def toy_factors(cofactor_error: int = 0) -> dict[Party, Factors]:
    """p, q and P', Q' of the toy key, each party's part. cofactor_error: added to P'."""
    key = toy_key(512)
    small = shared_integers([key.p, key.q])
    large = shared_integers([(key.P - 1) // (2 * key.p) + cofactor_error, (key.Q - 1) // (2 * key.q)])
    return {party: (small[party], large[party]) for party in PARTIES}


class KeySession(Session[JointKey]):
    """A session of those who have shared factors already."""

    def __init__(self, party: Party, factors: Factors) -> None:
        about = digest("key of factors")
        super().__init__(party, about, lambda seat, told: key_steps(seat, factors, Sizes(TOY), told))
