"""What SIGHUP does to a daemon: it reads again what it can without a restart, and says what it cannot.

TLS files and the revocation list, which are followed anyway; the level of the log; and what a daemon adds of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.server.config import DaemonSettings
from veilmatch.server.ground.logs import change_level
from veilmatch.server.transport.identity import Identity

_log = structlog.get_logger(__name__)


class Hangup:
    """Call it on SIGHUP.

    settings: as the daemon was started with. load: reads the configuration file again. more: what else to do, in a
    thread each.
    """

    def __init__(
        self,
        identity: Identity,
        settings: DaemonSettings,
        load: Callable[[], DaemonSettings],
        more: Sequence[Callable[[], object]] = (),
    ) -> None:
        self._identity = identity
        self._settings = settings
        self._load = load
        self._more = more

    async def __call__(self) -> None:
        """Read everything again. A file that is wrong changes nothing, and is said."""
        _log.info("hangup")
        await self._identity.look(at_once=True)
        for one in self._more:
            await asyncio.to_thread(one)
        try:
            found = await asyncio.to_thread(self._load)
        except ConfigurationError as error:
            _log.error("alert", code=error.code, reason=f"the configuration is not read again: {error}")
            return
        change_level(found.log_level)
        names = type(found).model_fields
        waiting = [
            name for name in names if name != "log_level" and getattr(found, name) != getattr(self._settings, name)
        ]
        _log.info("configuration read again", log_level=found.log_level, takes_a_restart=waiting)
