"""What the servers hold beside ciphertexts, template by template: behind `templates` of the clients."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from veilmatch.client.results import TemplateEntry
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Connection
from veilmatch.client.wire.signing import Draft
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.parties import PARTIES, Pair
from veilmatch.crypto.terms import Terms
from veilmatch.protos.v1 import matcher_pb2, request_pb2

_EPOCH = date(1970, 1, 1)


async def templates(connection: Connection, subject: str, timeout_s: float) -> list[TemplateEntry]:
    """Return every template, of one subject if that is not "". Raises IntegrityError if an answer has no sense."""
    answered = await connection.ask(
        Draft(request_pb2.OPERATION_SUBJECTS, subject=subject, details=True),
        timeout_s,
        lambda matcher, signed, left: matcher.subjects(signed, left),
        agreement.agreed_templates,
    )
    return entries(answered.opened, answered.pair)


def entries(
    agreed: Iterable[tuple[matcher_pb2.TemplateDetail, matcher_pb2.TemplateDetail]], pair: Pair
) -> list[TemplateEntry]:
    """Return what both matchers of a pair have said of templates. Raises IntegrityError if it has no sense."""
    try:
        return [_entry(both, pair) for both in agreed]
    except (OverflowError, ValueError, OSError):
        raise IntegrityError("a template of a time that there is not") from None


def _entry(both: tuple[matcher_pb2.TemplateDetail, matcher_pb2.TemplateDetail], pair: Pair) -> TemplateEntry:
    one, terms = both[0], Terms.decode(both[0].terms)
    return TemplateEntry(
        subject=one.subject,
        pack=one.pack,
        slot=one.slot,
        sequence=one.sequence,
        enrolled_at=None if terms is None else datetime.fromtimestamp(terms.enrolled_s, UTC),
        consent=None if terms is None else terms.consent,
        by_device=one.by_device,
        record_bytes=one.record_bytes,
        asked={
            party: _EPOCH + timedelta(days=own.asked_day)
            for party, own in zip((p for p in PARTIES if p in pair), both, strict=True)
        },
    )
