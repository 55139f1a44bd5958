"""Whoever runs the one TLS authority of all takes the key from a recovery: it stands between the two that are left.

Towards a it is b and the fresh machine, towards b it is a and the fresh machine: two of three each time, and two have
all that the third one shares. Each runs the honest code and is told nothing wrong. What ends it are the signatures of
organisations over the seeds that they have with each other, before anything is shared.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.crypto.ceremony.test_renewal import RenewalTable, dealt_before, secret_order
from tests.crypto.toys import TOY
from tests.recovery.three import Three
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony import session as sessions
from veilmatch.crypto.ceremony.joint import renewal as steps
from veilmatch.crypto.ceremony.joint.sizes import Sizes
from veilmatch.crypto.ceremony.seats import Randomness
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.errors import IntegrityError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.ceremony.links import Links
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.recovery import seeds


def made_up(key: KeyHolderKey) -> KeyHolderKey:
    """What somebody who has no share begins with in the place of one that has."""
    shares = tuple(replace(share, _exponent=Integer(1), _kappa=Integer(1)) for share in key._shares)
    return key.of_epoch(key.epoch, shares, key._safety, bytes(32), SECRET_ACCESS)  # type: ignore[arg-type]


def share_of(victim: Party, monkeypatch: pytest.MonkeyPatch) -> int:
    """What the other two of a session have of the victim's share of o, if they are one."""
    seen: dict[Party, Shared] = {}
    honest = steps.share

    def share(seat: Any, owner: Party, *rest: Any) -> Any:
        shared = yield from honest(seat, owner, *rest)
        if owner == victim and seat._name.endswith(f"o of {victim}"):
            seen[seat.party] = shared
        return shared

    before = {party: key if party == victim else made_up(key) for party, key in dealt_before()[1].items()}
    with monkeypatch.context() as patched:
        patched.setattr(steps, "share", share)
        RenewalTable(TOY, lost="c", before=before).run()
    # Of the three parts each two have one: those of the two that are one are all of them.
    first, second = (seen[party] for party in PARTIES if party != victim)
    parts = {int(part) for one in (first, second) for part in (*one.behind, *one.ahead)}
    return sum(parts) % int(Sizes(TOY).room)


def test_two_of_three_towards_each_have_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share_of("a", monkeypatch) - share_of("b", monkeypatch) == secret_order()


def rounds_of_each(monkeypatch: pytest.MonkeyPatch) -> dict[Party, set[int]]:
    """Note in which rounds each of the three sends: the first two make the session."""
    numbers: dict[Party, set[int]] = {party: set() for party in PARTIES}
    exchanged = Links.exchanged

    async def noting(self: Links, messages: Any, awaited: Any, name: bytes, number: int) -> Any:
        (own,) = set(PARTIES) - set(self.peers)
        numbers[own].add(number)
        return await exchanged(self, messages, awaited, name, number)

    monkeypatch.setattr(Links, "exchanged", noting)
    return numbers


@pytest.mark.parametrize("lost", ["c", None])
async def test_seeds_that_two_do_not_have_in_common_end_it_before_anything_is_shared(
    lost: Party | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three, numbers = Three.installed(tmp_path / "installation", lost), rounds_of_each(monkeypatch)
    honest = sessions._introduced

    def between(party: Party, about: bytes) -> Any:
        """What a and b have with whoever stands between them: one seed each. What is told to both is the same."""
        randomness = yield from honest(party, about)
        made = dict(randomness._seeds)
        if party in ("a", "b"):
            made["b" if party == "a" else "a"] = party.encode() * 32
        return Randomness(randomness.session, made)

    monkeypatch.setattr(sessions, "_introduced", between)
    outcomes = await three.recover()
    assert all(isinstance(one, VeilmatchError) for one in outcomes.values()), outcomes
    for party, peer in (("a", "b"), ("b", "a")):
        error = outcomes[party]  # type: ignore[index]
        assert isinstance(error, IntegrityError) and error.party == f"keyholder-{peer}", outcomes
        assert "stand between" in (error.hint or "")
        assert numbers[party] == {0, 1}  # type: ignore[index]
    three.require_untouched()


async def test_who_has_no_key_of_the_organisation_cannot_sign_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three, numbers = Three.installed(tmp_path / "installation", "c"), rounds_of_each(monkeypatch)
    honest = seeds.shown

    def shown(session: Any, signer: OrganisationKey) -> bytes:
        return honest(session, OrganisationKey.fresh("b") if session.party == "b" else signer)

    monkeypatch.setattr(seeds, "shown", shown)
    outcomes = await three.recover()
    for party in ("a", "c"):
        error = outcomes[party]  # type: ignore[index]
        assert isinstance(error, IntegrityError) and error.party == "keyholder-b", outcomes
        assert numbers[party] == {0, 1}  # type: ignore[index]
    three.require_untouched()
