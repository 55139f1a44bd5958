"""What it takes several organisations for: too few of them are there, or they say different things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from veilmatch.crypto.errors.base import Details, VeilmatchError


class DisagreementError(VeilmatchError):
    """The three pairs of organisations answer one question differently: one of them lies, and nobody can tell which.

    said: what each pair answered, by its name. It is for the device alone: it stands in no text and no log, and is no
    part of `fields`. request_ids: by pair, the name of its request in the logs of all parties.
    """

    code = "disagreement"
    exit_status = 13

    def __init__(
        self,
        message: str,
        *,
        said: Mapping[str, object] | None = None,
        request_ids: Mapping[str, str] | None = None,
        **details: Unpack[Details],
    ) -> None:
        super().__init__(message, **details)
        self.said = dict(said or {})
        self.request_ids = dict(request_ids or {})

    def fields(self) -> dict[str, Any]:
        """See VeilmatchError.fields."""
        return super().fields() | {"request_ids": self.request_ids}

    @classmethod
    def _restore(cls, message: str, details: Details, fields: dict[str, Any]) -> VeilmatchError:
        ids = fields.get("request_ids")
        known = {str(pair): str(name) for pair, name in ids.items()} if isinstance(ids, dict) else {}
        return cls(message, request_ids=known, **details)


class UnavailableError(VeilmatchError):
    """Too few parties, or too little stock. `party` is who is missing; `needed` and `available` say of what."""

    code = "unavailable"
    exit_status = 6

    def __init__(
        self, message: str, *, needed: object = None, available: object = None, **details: Unpack[Details]
    ) -> None:
        details.setdefault("expected", needed)
        details.setdefault("got", available)
        super().__init__(message, **details)

    @property
    def needed(self) -> str | None:
        """What was needed; the same as `expected`."""
        return self.expected

    @property
    def available(self) -> str | None:
        """What there was; the same as `got`."""
        return self.got


class HandshakeError(UnavailableError):
    """No connection to `party`, because one end does not accept the other's certificate."""

    code = "handshake"


class VersionError(UnavailableError):
    """The two ends of a call speak no version of the protocol that both know; `got` and `expected` say which each does.

    The message says who has to be updated. `party` is a server of the two, that one if it is one.
    """

    code = "version"
    needs = "version-error"


class AuditLogError(UnavailableError):
    """What is served cannot be noted in the audit log, so nothing is served."""

    code = "audit_log"


class StorageError(UnavailableError):
    """What has to be kept cannot be written or read: a full, failing or read-only disk. Nothing was done."""

    code = "storage"
