"""Erasing what is due: one step of retention at a matcher, agreed on like every other change.

Each of the two matchers says which templates are due by its own configuration and its own clock. They commit to that,
exchange it, and erase what both have said, a bounded number at a time. So no organisation has anything erased that
another one's configuration keeps, however many of them ask, and what was erased is not there to be erased again.
The device that asks learns how many, no name, and nothing of the change: whose places those were others can tell.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.config import RetentionSettings
from veilmatch.server.ground.finishing import to_the_end
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.agreement.sitting import Sitting
from veilmatch.server.matcher.change.mutating import done_before, erased
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.matcher.retention.asked import AskedDays
from veilmatch.server.matcher.retention.rules import Due, due, in_both
from veilmatch.server.monitoring import meters

#: Templates that one step erases: bounded, so that queries are answered between steps.
STEP_TEMPLATES = 32

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Retaining:
    """What one matcher goes by. rules: by gallery; one that is not there keeps everything."""

    rules: dict[str, RetentionSettings]
    asked: AskedDays
    now: Callable[[], float] = time.time

    async def due(self, gallery: Gallery) -> Due:
        """Return what is due in a gallery, as this matcher sees it. Hold its lock."""
        rules = self.rules.get(gallery.name)
        if rules is None:
            return Due({}, 0)
        await self.asked.flush()
        details = await gallery.details()
        return await asyncio.to_thread(due, details, rules, self.now())


async def retain(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    gallery: Gallery,
    meeting: Meeting,
    on: Surroundings,
    by: Retaining,
) -> pb.MutateReply:
    """Erase up to STEP_TEMPLATES of what both matchers say is due; `left` of the answer says how many more there are.

    Nothing is changed if there is none.
    """
    async with on.agreement.changing(meeting, gallery) as sitting:
        reply = await to_the_end(_retain(checked, request, gallery, sitting, meeting, on, by))
    # A receipt of an erasure would tell which places are free now: the device learns how many.
    reply.ClearField("change")
    return reply


async def _retain(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    gallery: Gallery,
    sitting: Sitting,
    meeting: Meeting,
    on: Surroundings,
    by: Retaining,
) -> pb.MutateReply:
    if (reply := await done_before(checked, gallery)) is not None:
        reply.ClearField("change")
        return reply
    gallery.require_changeable()
    own = await by.due(gallery)
    mine = own.bitmap(gallery.index.pack_count, gallery.index.slots)
    # One byte more, so that there is something to exchange about an empty gallery.
    theirs = await meeting.swap_columns(checked.digest, mine + b"\0")
    places = in_both(mine + b"\0", theirs, gallery.index.slots)
    # What the other one says of places that are free has no meaning.
    places = [place for place in places if place in own.places]
    step = places[:STEP_TEMPLATES]
    if not step:
        return pb.MutateReply(sequence=gallery.state.sequence, chain=gallery.state.chain)
    reply = await erased(step, checked, request, gallery, sitting, meeting, on)
    reply.left = len(places) - len(step)
    reply.ClearField("change")
    reasons = Counter(own.places[place] for place in step)
    for reason, count in reasons.items():
        meters.RETAINED.labels(gallery.name, reason).inc(count)
    counts = {str(reason): count for reason, count in reasons.items()}
    _log.info("templates were due and are erased", gallery=gallery.name, left=reply.left, **counts)
    return reply
