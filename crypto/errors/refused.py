"""What a server may not serve, or not now: requests, galleries, budgets, load."""

from __future__ import annotations

from typing import Any, Unpack

from veilmatch.crypto.errors.base import Details, VeilmatchError, number, text


class RequestRefusedError(VeilmatchError):
    """A request that this server may not serve."""

    code = "request_refused"
    exit_status = 4


class RequestExpiredError(RequestRefusedError):
    """The request is past its expiry, or its expiry lies further ahead than servers accept."""

    code = "request_expired"


class WrongClockError(RequestExpiredError):
    """The clock of `party` is wrong: a request that was right elsewhere is far from right by it."""

    code = "wrong_clock"


class RequestReplayedError(RequestRefusedError):
    """The nonce of the request was seen before."""

    code = "request_replayed"


class RequestSignatureError(RequestRefusedError):
    """The request is not signed by the device that it names."""

    code = "request_signature"


class RecipientRevokedError(RequestRefusedError):
    """A recipient's certificate that the organisation of this server has revoked; `got` is the recipient's name."""

    code = "recipient_revoked"


class PartyRefusedError(RequestRefusedError):
    """The certificate at the other end is not that of a party served here."""

    code = "party_refused"


class DeviceRightsError(RequestRefusedError):
    """The certificate of the device does not give it the right to this, or not at this time."""

    code = "device_rights"


class LowThresholdError(DeviceRightsError):
    """The certificate of the device allows this operation from a higher threshold on; got and expected name both."""

    code = "low_threshold"


class LivenessDemandedError(DeviceRightsError):
    """The certificate of the device demands a verdict of liveness that the request does not have."""

    code = "liveness_demanded"
    needs = "liveness-verdicts"


class KeyMismatchError(VeilmatchError):
    """Another key, epoch, gallery, model or parameter set than the one in use."""

    code = "key_mismatch"
    exit_status = 5


class UnknownGalleryError(KeyMismatchError):
    """The servers have no gallery of this name; `expected` lists those that they have."""

    code = "unknown_gallery"


class UnfitModelError(KeyMismatchError):
    """Embeddings of this face model have another number of coordinates than the parameter set."""

    code = "unfit_model"


class GalleryMismatchError(KeyMismatchError):
    """The two matchers do not hold the same gallery."""

    code = "gallery_mismatch"


class ModelMismatchError(KeyMismatchError):
    """Embeddings of another model than those in the gallery; the two cannot be compared."""

    code = "model_mismatch"


class GalleryRotatedError(KeyMismatchError):
    """A change of a gallery that was rotated: it goes on under a new key, and is only read under this one."""

    code = "gallery_rotated"


class BudgetExceededError(VeilmatchError):
    """More than a budget gives. `budget` names it, `limit` is its size, `retry_after_s` says when to ask again.

    `setting` is the field of [budgets] that sets it, with its window: "device_requests.day"; `party` is who counts.
    retry_after_s is None if the request alone is larger than the budget: it can never be served as it is.
    """

    code = "budget_exceeded"
    exit_status = 9

    def __init__(
        self,
        message: str,
        *,
        budget: str | None = None,
        limit: int | None = None,
        setting: str | None = None,
        **details: Unpack[Details],
    ) -> None:
        if limit is not None:
            details["expected"] = f"<= {limit}"
        super().__init__(message, **details)
        self.budget = budget
        self.setting = setting
        self.limit = limit

    def fields(self) -> dict[str, Any]:
        """See VeilmatchError.fields."""
        return super().fields() | {"budget": self.budget, "limit": self.limit, "setting": self.setting}

    @classmethod
    def _restore(cls, message: str, details: Details, fields: dict[str, Any]) -> VeilmatchError:
        limit = number(fields.get("limit"))
        whole = None if limit is None else int(limit)
        setting = text(fields.get("setting"))
        return cls(message, budget=text(fields.get("budget")), limit=whole, setting=setting, **details)


class RefreshIntervalError(BudgetExceededError):
    """Another refresh of the key shares, led by the same key holder, before its interval is over."""

    code = "refresh_interval"


class OverloadedError(VeilmatchError):
    """More requests at once than a server takes. `retry_after_s` says when to ask again: another pair is as busy."""

    code = "overloaded"
    exit_status = 12
