"""A peer calls about requests that nobody brought, with messages as large as they may be: little is kept of them."""

from __future__ import annotations

from typing import Any

import pytest

from veilmatch.crypto.claims import NOBODY
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.keys.parties import Party
from veilmatch.protos.v1 import keyholder_pb2, matcher_pb2
from veilmatch.server.keyholder.session.pair_link import PairLinks
from veilmatch.server.matcher.agreement.meetings import Meetings
from veilmatch.server.transport.links import AcceptedLink, Rendezvous
from veilmatch.server.transport.standing.kinds import PAIR
from veilmatch.server.transport.standing.link import StandingLink
from veilmatch.server.transport.standing.strand import OtherEnd, Strand

STUBS: dict[Party, Any] = {"a": None, "c": None}


async def test_a_call_that_waits_begins_with_a_small_message() -> None:
    rendezvous: Rendezvous[AcceptedLink[matcher_pb2.MatcherMessage]] = Rendezvous(30.0)
    first = matcher_pb2.MatcherMessage(rendezvous=matcher_pb2.Rendezvous(request_digest=bytes(15 << 20)))
    with pytest.raises(ProtocolError, match="matcher-a begins a call with a large message"):
        rendezvous.bring(b"matcher-a" + bytes(32), AcceptedLink(None, "matcher-a", first=first))
    assert not rendezvous._links


@pytest.mark.parametrize("size", [0, 31, 33, 4096])
async def test_matchers_call_about_a_digest(size: int) -> None:
    meetings = Meetings("b", STUBS, 1.0)
    with pytest.raises(ProtocolError, match="matcher-a calls about something that is not a digest"):
        meetings.bring(bytes(size), AcceptedLink(None, "matcher-a"))
    meetings.bring(bytes(32), AcceptedLink(None, "matcher-a"))


@pytest.mark.parametrize("size", [0, 31, 33, 4096])
async def test_key_holders_call_about_a_digest(size: int) -> None:
    pairs = PairLinks("b", STUBS, 1.0, lambda strand, matters: None)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="keyholder-a calls about something that is not a digest"):
        pairs._bring(session(size))
    pairs._bring(session(32))


def session(size: int) -> Strand:
    """One that keyholder-a has opened, about something of this size."""
    first = keyholder_pb2.PairMessage(rendezvous=keyholder_pb2.PairRendezvous(subject_matter=[bytes(size)]))
    other = OtherEnd("keyholder-a", ("bc",), NOBODY)
    return Strand(StandingLink(PAIR, "keyholder-b", other), 1, other, first)
