"""How the matchers of a device say that they are: for operators; it counts in no budget, and decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc

from veilmatch.client.config import DeviceSettings
from veilmatch.client.endings import certificates_of_device
from veilmatch.client.wire.health_check import said_over
from veilmatch.client.wire.transport import dials
from veilmatch.crypto.health import Asked, Said
from veilmatch.crypto.keys.parties import pairs_among

#: How long a matcher has for an answer.
WITHIN_S = 3.0


async def asked(settings: DeviceSettings) -> Asked:
    """Ask all matchers of a device. Raises what `dials` raises."""
    dialled = dials(settings)
    answers = await asyncio.gather(*(_said(one.dial) for one in dialled.values()))
    said = dict(zip(dialled, answers, strict=True))
    return Asked("matcher", said, pairs_among(list(dialled)), certificates_of_device(settings))


async def _said(dial: Callable[[], grpc.aio.Channel]) -> Said | None:
    async with dial() as channel:
        return await said_over(channel, WITHIN_S)
