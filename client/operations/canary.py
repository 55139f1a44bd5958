"""A canary: questions whose answers are known, asked of each pair of organisations, to see that all of it works.

It asks in a gallery of its own, in which nobody is enrolled but canaries: subjects whose vectors come out of a hash,
and are no secret and nobody's face. A device certificate names galleries, so that one for this gallery and `verify`
alone is of no use for anything else, and every server holds it to that (docs/monitoring.md, canary).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.errors import IntegrityError, VeilmatchError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.requests import TOKEN_BYTES

#: So many that none uses up its budget: each is asked for in turn, for so long.
CANARIES, TURN_S = 32, 900
MODEL = "veilmatch canary 1"
_ENROL_S = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """What became of the questions to one pair. error: None if both were answered, and rightly."""

    pair: Pair
    seconds: float
    error: VeilmatchError | None = None


def subject_of(number: int) -> str:
    """Return the subject of a canary."""
    return f"canary-{number:02d}"


def vector_of(number: int, dimension: int) -> NDArray[np.float64]:
    """Return the vector of a canary, float64[D]; those of two are almost orthogonal."""
    drawn = hashlib.shake_256(f"{MODEL} {number}".encode()).digest(2 * dimension)
    vector: NDArray[np.float64] = np.frombuffer(drawn, dtype="<u2") / float(1 << 15) - 1.0
    return vector / np.linalg.norm(vector)


def number_at(time_s: float) -> int:
    """Return which canary is asked for at this Unix time."""
    return int(time_s // TURN_S) % CANARIES


async def enrol_canaries(settings: DeviceSettings) -> int:
    """Enrol all canaries that are not there, each once; return how many there are. The device must have the right."""
    dimension = read_public_file(settings.public_key).public_key.parameters.dimension
    async with AsyncClient(settings.model_copy(update={"liveness": None})) as client:
        for number in range(CANARIES):
            # One that was enrolled before has this token, and is not enrolled again.
            token = hashlib.sha256(f"{MODEL} token {number}".encode()).digest()[:TOKEN_BYTES]
            vector = vector_of(number, dimension)
            await client.enrol_embedding(subject_of(number), vector, model=MODEL, token=token, timeout_s=_ENROL_S)
    return CANARIES


async def ask_all(settings: DeviceSettings, number: int) -> Sequence[Run]:
    """Ask each pair of the settings, one after the other: is this canary itself, and is it the next one?"""
    return [await _ask(settings, pair, number) for pair in settings.pairs]


async def _ask(settings: DeviceSettings, pair: Pair, number: int) -> Run:
    alone = settings.model_copy(
        update={
            "matchers": {party: address for party, address in settings.matchers.items() if party in pair},
            "pairs": [pair], "hedge": False, "assurance": "one-pair", "liveness": None,
        }
    )  # fmt: skip
    dimension = read_public_file(settings.public_key).public_key.parameters.dimension
    started = time.perf_counter()
    try:
        async with AsyncClient(alone) as client:
            for shown, expected in ((number, True), ((number + 1) % CANARIES, False)):
                vector = vector_of(shown, dimension)
                found = await client.verify_embedding(subject_of(number), vector, model=MODEL)
                if found.decision is not expected:
                    raise IntegrityError(
                        "a pair gave a wrong answer", got=f"{found.decision} of pair {pair}", expected=str(expected)
                    )
    except VeilmatchError as error:
        return Run(pair, time.perf_counter() - started, error)
    return Run(pair, time.perf_counter() - started)


def run_canary(settings: DeviceSettings) -> Sequence[Run]:
    """Ask all pairs for the canary of this moment."""
    return asyncio.run(ask_all(settings, number_at(time.time())))
