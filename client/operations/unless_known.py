"""Enrolling one vector unless it is known: what the device makes of the two bits that it alone learns.

If the face was known, what was stored is an empty template. It is taken back, which shows the servers that the face was
known, or left, which shows them nothing. docs/protocol.md.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from veilmatch.client.given.quoting import about, quoted_name
from veilmatch.client.operations.device import Unless
from veilmatch.client.results import Enrolment
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Connection
from veilmatch.client.wire.signing import Draft
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.errors import UnknownSubjectError, VeilmatchError
from veilmatch.crypto.requests import TOKEN_BYTES
from veilmatch.crypto.versions import Feature
from veilmatch.protos.v1 import matcher_pb2, request_pb2

if TYPE_CHECKING:
    from veilmatch.client.operations.changes import Changes


async def enrol_unless_known(
    changes: Changes,
    connection: Connection,
    subject: str,
    lanes: KnownCiphertexts,
    model: str,
    token: bytes,
    consent: bytes,
    unless: Unless,
    ends: float,
) -> Enrolment:
    """Enrol one vector unless it is known, and take back the empty template that is left if it was.

    ends: on the monotonic clock. Under the same token what was erased since is asked for anew, whoever erased it: what
    a call took back, too. Raises VersionError if a matcher that answers cannot do this.
    """
    await connection.require(Feature.UNLESS_KNOWN, "enrolling unless somebody is known")
    dated = await changes.dated(bool(consent))
    for times in itertools.count():
        current = digest("token unless known", token, times)[:TOKEN_BYTES] if times else token
        draft = Draft(
            request_pb2.OPERATION_ENROL, lanes, unless.threshold, subject, token=current, model=model,
            consent=consent, dated=dated, unless_known=True,
        )  # fmt: skip
        answered = await changes.mutate(draft, max(ends - time.monotonic(), 0.001), agreement.opened_enrolment)
        if not erased_since(answered.opened.agreed):
            break
    (agreed, valid, known), request_id = answered.opened, answered.request_id
    if not valid:
        raise agreement.refused_vector([current], request_id)
    if not known:
        return Enrolment(agreed.sequence, agreed.templates, agreed.templates * agreed.repeated, request_id)
    sequence = agreed.sequence
    if not unless.keep_empty:
        sequence = await _taken_back(changes, subject, current, ends) or sequence
    return Enrolment(sequence, 0, 0, request_id, known=True)


async def _taken_back(changes: Changes, subject: str, enrolment: bytes, ends: float) -> int:
    """Erase what an enrolment left; return the sequence number, 0 if somebody else has erased it."""
    token = digest("token of taking back", enrolment)[:TOKEN_BYTES]
    try:
        return (await changes.erase(subject, token, max(ends - time.monotonic(), 0.001), enrolment)).sequence
    except UnknownSubjectError:
        return 0
    except VeilmatchError as error:
        told = f"the face of {quoted_name(subject)} is known, and the empty template that it left is not erased"
        raise about(told, error) from None


def erased_since(agreed: matcher_pb2.MutateReply) -> bool:
    """Return whether an enrolment is a retry of one of which nothing is left."""
    return agreed.repeated and not agreed.present
