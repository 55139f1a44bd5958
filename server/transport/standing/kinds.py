"""Kinds of standing links: the messages of each, as one end has them.

Three kinds, one for each two servers that have many sessions with each other: two key holders (PAIR), two matchers
(MEET), and a matcher and the key holder of its organisation (SERVE).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from veilmatch.protos.v1 import keyholder_pb2 as keyholder
from veilmatch.protos.v1 import matcher_pb2 as matcher

S = TypeVar("S", bound=Message)
H = TypeVar("H", bound=Message)


@dataclass(frozen=True, slots=True)
class Kind(Generic[S, H]):
    """What goes over a link, as one end has it.

    method: which call it is, for the log. opens: the content of the message that a session begins with. says, hears:
    messages of a session, of this end and of the other one. says_frames, hears_frames: those that carry them.
    each_a_call: whether whoever serves a session counts it as a call.
    """

    method: str
    opens: str
    says: type[S]
    says_frames: type[Any]
    hears: type[H]
    hears_frames: type[Any]
    each_a_call: bool = False

    def other_end(self) -> Kind[H, S]:
        """Return the same as the other end has it."""
        says, hears = (self.hears, self.hears_frames), (self.says, self.says_frames)
        return Kind(self.method, self.opens, *says, *hears, self.each_a_call)

    @property
    def says_why(self) -> bool:
        """Whether this end says why a session has failed."""
        return "ended" in self.says.DESCRIPTOR.fields_by_name


#: All sessions of a pair; the minus holder calls.
PAIR = Kind(
    "Pair", "rendezvous", keyholder.PairMessage, keyholder.PairFrames, keyholder.PairMessage, keyholder.PairFrames
)
#: Verifications of a pair; the matcher that leads calls.
MEET = Kind(
    "Meet", "rendezvous", matcher.MatcherMessage, matcher.MatcherFrames, matcher.MatcherMessage, matcher.MatcherFrames
)
#: Verifications of an organisation; the matcher calls. It says nothing of how they ended there: nothing at a key holder
#: may follow from what a matcher says of others.
SERVE = Kind(
    "Serve", "open", keyholder.MatcherToKeyHolder, keyholder.OpenFrames,
    keyholder.KeyHolderToMatcher, keyholder.AnswerFrames, each_a_call=True,
)  # fmt: skip
