"""The health service of a daemon: the standard one, with what this server can do and what time it has.

By name, so that any checker can ask:

    ""                      the daemon answers: its event loop runs
    "veilmatch.ready"       at least one pair can be served here
    "veilmatch.pair-ab"     ... this one, as far as it lies with this organisation

The answer about "" also says, in trailing metadata, which of CONDITIONS hold, the time here, and what this server
speaks (crypto/versions.py), in one small JSON document: that is what other servers, and `veilmatch status`, ask for
(`neighbours.py`, client/wire/condition.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health

from veilmatch.common.speaking import our_hello
from veilmatch.crypto.health import HEALTH_KEY

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_PREFIX = "veilmatch."


class HealthService(health.HealthServicer):
    """conditions: of crypto/health.py, those that hold now. now: the clock of this server."""

    def __init__(
        self, conditions: Callable[[], Collection[str]] | None = None, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._conditions = conditions
        self._now = now
        self._is_over = False

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:
        """See health.proto, and the module."""
        holds = self._holds()
        if not request.service:
            document = {
                "time_ms": int(self._now() * 1000), "holds": sorted(holds), "speaks": our_hello().write()
            }  # fmt: skip
            context.set_trailing_metadata(((HEALTH_KEY, json.dumps(document).encode()),))
        elif request.service.startswith(_PREFIX):
            is_known = self._conditions is not None
            if is_known:
                held = request.service.removeprefix(_PREFIX) in holds
                return health_pb2.HealthCheckResponse(status=_SERVING if held else _NOT_SERVING)
        return await super().Check(request, context)

    async def enter_graceful_shutdown(self) -> None:
        """See the base class; no condition holds any more."""
        self._is_over = True
        await super().enter_graceful_shutdown()

    def _holds(self) -> Collection[str]:
        return () if self._is_over or self._conditions is None else self._conditions()
