"""What a key holder notes in its audit log: of a request its session, or its refusal, or that the session failed; of
a refresh of its shares every step, and a recovery of them.

Noted are who, when, what, how much, and the recipient if the answer is for one. Never a probe, a template, a score or
an answer (there are none here), and never the subject, whose digest in the request is salted afresh each time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog

from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import AuditLogError, VeilmatchError
from veilmatch.crypto.keys.parties import Party
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.ground.finishing import to_the_end
from veilmatch.server.ground.own_failures import Self, alert
from veilmatch.server.keyholder.audit.log import AuditLog

#: Refusals of one device, or of one caller whose request cannot be attributed, that are noted in a minute.
REFUSALS_A_MINUTE = 30
_MINUTE_S = 60.0
#: Names in a request may have any length until a matcher has checked them.
_NAME_CHARACTERS = 64

_log = structlog.get_logger(__name__)


class Auditor:
    """Notes the requests of one key holder.

    A device over its budget may ask on and on. So that it cannot fill the disk, refusals beyond `REFUSALS_A_MINUTE`
    are only counted, and the next one that is noted says how many were not (`unlisted`). Sessions, which budgets
    bound, are always noted, and so are those that fail, and those whose peer never let them begin.
    """

    def __init__(self, log: AuditLog, party: Party, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self.party: Party = party
        self._monotonic = monotonic
        self._lock = threading.Lock()
        #: By device: start of the minute, refusals noted in it, refusals counted only.
        self._refusals: dict[str, tuple[float, int, int]] = {}

    @asynccontextmanager
    async def about(self, caller: str) -> AsyncIterator[Record]:
        """Give the record of a request that `caller` brings; an error that ends it is noted.

        So is that its session was given up before it was answered, by the matcher or the device.
        """
        record = Record(self._log, caller)
        try:
            yield record
        except VeilmatchError as error:
            await self._refused(record, error.code)
            raise
        except Exception:
            await self._refused(record, "internal")
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if (record.begun or record.spoken) and not record.answered:
                await self._refused(record, "abandoned")
            raise

    def refresh(self, step: str, epoch: int, leader: Party | None, without: Party | None = None) -> None:
        """Note a step of a refresh of the shares, durably; blocks. Raises AuditLogError if it cannot be noted.

        step: "prepared", "used", "abandoned", "contradicted", "recover" or "back"; docs/operations.md says what each
        means. epoch: the one that the refresh makes. leader: None if this holder no longer knows who led it. without:
        the peer whose word does not count, to "recover".
        """
        fields = {"event": "refresh", "step": step, "epoch": epoch}
        parties = {"caller": leader, "without": without}
        self._log.append(fields | {name: f"keyholder-{party}" for name, party in parties.items() if party})

    def recovery(self, epoch: int, lost: Party | None, session: bytes) -> None:
        """Note that the shares of this epoch come into use, in place of all before; blocks. Raises as `refresh` does.

        lost: whose share was lost, if one was. session: 32 bytes, of the recovery.
        """
        fields = {"event": "recovery", "epoch": epoch, "session": session.hex()}
        self._log.append(fields | ({"lost": f"keyholder-{lost}"} if lost else {}))

    @property
    def log(self) -> AuditLog:
        """The log itself."""
        return self._log

    def put_back(self) -> None:
        """Give a log that was deleted its place again; blocks. Raises AuditLogError if that cannot be done."""
        self._log.put_back()

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    async def _refused(self, record: Record, code: str) -> None:
        fields = {"event": "failed" if record.begun else "refused", "code": code, **record.fields}
        if not (record.begun or record.spoken):
            if (unlisted := self._unlisted(record.fields.get("device") or record.fields["caller"])) is None:
                return
            fields |= {"unlisted": unlisted} if unlisted else {}
        try:
            # A caller that goes away meanwhile must not keep it from being noted.
            await to_the_end(asyncio.wrap_future(self._log.enter(fields)))
        except AuditLogError as error:
            # Nothing is served either way, and the error that is under way may be about something else.
            alert(error, Self(f"keyholder-{self.party}"))
            _log.info("refusal not noted", code=code, reason=error.available)

    def _unlisted(self, who: str) -> int | None:
        """Return how many refusals went unlisted before this one, or None if this one is not listed either."""
        with self._lock:
            now = self._monotonic()
            since, noted, unlisted = self._refusals.get(who, (now, 0, 0))
            if now - since >= _MINUTE_S:
                since, noted = now, 0
            if noted >= REFUSALS_A_MINUTE:
                self._refusals[who] = since, noted, unlisted + 1
                return None
            self._refusals[who] = since, noted + 1, 0
            return unlisted


class Record:
    """One request in the audit log."""

    def __init__(self, log: AuditLog, caller: str) -> None:
        self._log = log
        self.fields: dict[str, Any] = {"caller": caller}
        self.begun = False
        #: Whether hashes made from its ciphertexts left before its session had an id. Its end is noted then, always.
        self.spoken = False
        #: Whether the last answer was handed over.
        self.answered = False

    def identify(self, checked: CheckedRequest, model: str, output_bits: int) -> None:
        """Say what the request is, once its signature is known to be right."""
        self.fields |= {
            "device": checked.device,
            "gallery": checked.gallery[:_NAME_CHARACTERS],
            "model": model[:_NAME_CHARACTERS],
            "operation": checked.operation,
            "output_bits": output_bits,
            "pair": checked.pair,
            "request": checked.digest.hex(),
            "threshold": checked.threshold,
        }
        if (to := checked.recipient) is not None:
            self.fields |= {"recipient": to.recipient, "recipient_id": to.id.hex()}

    async def begin(self, session_id: bytes, sequence: int, chain: bytes) -> None:
        """Note that its session begins, durably, unless that is done. sequence, chain: of the gallery.

        Raises AuditLogError if it cannot be noted.
        """
        if self.begun or not session_id:
            return
        self.fields |= {
            "chain": chain[:DIGEST_BYTES].hex(),
            "sequence": sequence,
            "session": session_id.hex(),
        }
        await asyncio.wrap_future(self._log.enter({"event": "session", **self.fields}))
        self.begun = True
