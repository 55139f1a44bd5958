"""What the page may ask: is this photo good, enrol, verify, who is it, who is enrolled, erase, how are the servers.

A photo is the body of a call and stays in memory. What is asked with it stands in the query of the address, which is in
no log. An error is what the command line would say, as JSON.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.capture.image import MAX_IMAGE_BYTES
from veilmatch.client.capture.source import require_size
from veilmatch.client.config import DeviceSettings
from veilmatch.client.demo.witness import Witness
from veilmatch.client.results import Budget
from veilmatch.client.web import seen
from veilmatch.client.wire.condition import asked
from veilmatch.common.output import error_document, unforeseen
from veilmatch.crypto.errors import ImageError, InvalidInputError, VeilmatchError
from veilmatch.crypto.health import endings, outlook, troubles
from veilmatch.crypto.keys.parties import PAIRS, Pair
from veilmatch.protos.v1.request_pb2 import RequestBody

#: Of HTTP, by the exit status that the command line has for an error; 500 for all others.
_STATUS = {3: 422, 4: 403, 5: 409, 6: 503, 8: 503, 9: 429, 12: 503}


class Actions:
    """The calls of a page. One at a time is asked of the servers: it is one person's page.

    look: says of a photo what a person should know before it is used; raises the errors of
    Capture.embed_photo. ending: set when this server ends.
    """

    def __init__(
        self,
        settings: DeviceSettings,
        client: AsyncClient,
        witness: Witness,
        look: Callable[[bytes], dict[str, Any]],
        ending: asyncio.Event,
    ) -> None:
        self._settings, self._client, self._witness = settings, client, witness
        self._look, self._ending = look, ending
        self._turn = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return what is called by which address."""
        return [
            Route("/api/alive", self._alive),
            _route("/api/device", self._device, "GET"),
            _route("/api/parties", self._parties, "GET"),
            _route("/api/budgets", self._budgets, "GET"),
            _route("/api/subjects", self._subjects, "GET"),
            _route("/api/look", self._looked, "POST"),
            _route("/api/enrol", self._enrol, "POST"),
            _route("/api/verify", self._verify, "POST"),
            _route("/api/candidates", self._candidates, "POST"),
            _route("/api/known", self._known, "POST"),
            _route("/api/erase", self._erase, "POST"),
        ]

    async def _alive(self, _request: Request) -> Response:
        """Answer until this server ends. Then the page sends nothing any more: somebody else may listen here next."""

        async def until_the_end() -> AsyncIterator[bytes]:
            yield b"\n"
            await self._ending.wait()

        return StreamingResponse(until_the_end(), media_type="text/plain")

    async def _device(self, _request: Request) -> dict[str, Any]:
        settings = self._settings
        return {"device": settings.device, "gallery": settings.gallery, "threshold": settings.threshold}

    async def _parties(self, _request: Request) -> dict[str, Any]:
        said = await asked(self._settings)
        found = outlook(said.said, said.served)
        wrong = [*troubles(said.kind, said.said, said.served), *endings(said.certificates, time.time())]
        return {
            "level": found.level,
            "pairs": {pair: pair in found.available for pair in said.served},
            "servers": {party: one is not None for party, one in said.said.items()},
            "troubles": [trouble._asdict() for trouble in wrong],
        }

    async def _budgets(self, _request: Request) -> dict[str, Any]:
        async with self._turn:
            found = await self._client.budgets()
        pair = next((pair for pair in self._settings.pairs if pair in found.pairs), None)
        if pair is None:
            return {"pair": None, "budgets": []}
        # Of each measure the one that ends first.
        tightest: dict[str, Budget] = {}
        for one in found.pairs[pair]:
            known = tightest.setdefault(one.measure, one)
            if one.left < known.left:
                tightest[one.measure] = one
        return {"pair": pair, "budgets": [asdict(one) for one in tightest.values()]}

    async def _subjects(self, _request: Request) -> dict[str, Any]:
        async with self._turn:
            entries = await self._client.subjects()
        return {"subjects": [{"subject": entry.subject, "templates": entry.templates} for entry in entries]}

    async def _looked(self, request: Request) -> dict[str, Any]:
        photo = await _photo(request)
        return await asyncio.to_thread(self._look, photo)

    async def _enrol(self, request: Request) -> dict[str, Any]:
        subject, photo = _subject(request), await _photo(request)
        async with self._turn:
            done = await self._client.enrol(subject, photo, once=True)
            sent = self._witness.last_request
        views = seen.of_request(sent, _pair_of(sent.body), f"the name {subject}")
        again = " It was there already, from the same photo." if done.repeated else ""
        return {
            "yes": True,
            "words": f"{subject} is enrolled.{again}",
            "request_id": done.request_id,
            "views": views,
        }

    async def _verify(self, request: Request) -> dict[str, Any]:
        subject, photo = _subject(request), await _photo(request)
        async with self._turn:
            result = await self._client.verify(subject, photo)
            sent = self._witness.last_request
        return {
            "yes": result.decision,
            "words": f"This is {subject}." if result else f"This is not {subject}.",
            "seconds": result.timings.total_s,
            "request_id": result.request_id,
            "views": seen.of_answer(sent, result.pair, f"the name {subject}", result.shares, 1),
        }

    async def _candidates(self, request: Request) -> dict[str, Any]:
        photo = await _photo(request)
        async with self._turn:
            result = await self._client.candidates(photo)
            sent = self._witness.last_request
        names = ", ".join(result.subjects)
        return {
            "yes": bool(result),
            "words": f"This looks like {names}." if names else "Nobody who is enrolled looks like this.",
            "seconds": result.timings.total_s,
            "request_id": result.request_id,
            "views": seen.of_answer(sent, result.pair, "nobody's name", result.shares, result.compared),
        }

    async def _known(self, request: Request) -> dict[str, Any]:
        photo = await _photo(request)
        async with self._turn:
            result = await self._client.known(photo)
            sent = self._witness.last_request
        return {
            "yes": result.decision,
            "words": "Somebody who is enrolled looks like this." if result else "Nobody who is enrolled does.",
            "seconds": result.timings.total_s,
            "request_id": result.request_id,
            "views": seen.of_answer(sent, result.pair, "nobody's name", result.shares, 1),
        }

    async def _erase(self, request: Request) -> dict[str, Any]:
        subject = _subject(request)
        async with self._turn:
            done = await self._client.erase(subject)
        return {"yes": True, "words": f"{subject} is erased.", "request_id": done.request_id}


def _route(path: str, call: Callable[[Request], Awaitable[dict[str, Any]]], method: str) -> Route:
    async def answered(request: Request) -> Response:
        try:
            return JSONResponse(await call(request))
        except VeilmatchError as error:
            failure = error
        except Exception as error:  # its text may quote what was being handled
            failure = unforeseen(error)
        return JSONResponse({"error": error_document(failure)}, status_code=_STATUS.get(failure.exit_status, 500))

    return Route(path, answered, methods=[method])


async def _photo(request: Request) -> bytes:
    """Return the body of a call, a photo. Raises ImageError if there is none, or more than is read."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_IMAGE_BYTES:
            raise ImageError("the image file is too large", expected=f"at most {MAX_IMAGE_BYTES} bytes")
    require_size(len(data), MAX_IMAGE_BYTES)
    return bytes(data)


def _subject(request: Request) -> str:
    subject = request.query_params.get("subject", "").strip()
    if not subject:
        raise InvalidInputError("no name is given", expected="who it is", hint="Write a name, then press the button.")
    return subject


def _pair_of(body: bytes) -> Pair:
    asked_of = RequestBody.FromString(body).pair
    return next(pair for pair in PAIRS if pair == asked_of)
