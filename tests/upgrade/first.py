"""A process of the previous release that speaks as the first one did: version 1 of the protocol, and no hello.

Nor does it know what a feature stands for: to it those are requests that make no sense.
"""

from __future__ import annotations

from typing import Any

from veilmatch.common import speaking
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.server.admission.requests import RequestChecker
from veilmatch.server.transport import greeting

_check_fields = RequestChecker._check_fields


def install() -> None:
    """Make this process one."""
    speaking.NEWEST, speaking.OLDEST, speaking.Feature = 1, 1, ()  # type: ignore[assignment, misc]
    for module in (speaking, greeting):
        module.our_metadata = lambda: ()  # type: ignore[attr-defined]
    RequestChecker._check_fields = _check_known_fields  # type: ignore[method-assign]


def _check_known_fields(self: RequestChecker, body: Any, operation: Any) -> None:
    if body.views or body.unless_known or operation in ("issue", "present", "revoke"):
        raise InvalidInputError("not known to this release")
    _check_fields(self, body, operation)
