"""The digest of a mutation covers all of it, and the chain covers all mutations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.matcher.galleries import KEY_ID, PACK_BYTES, PARAMETERS, RECORD_BYTES, content, mutation
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.parameters import EARLIER_LANE_BITS, ParameterSet
from veilmatch.crypto.terms import Terms
from veilmatch.server.matcher.gallery.body import Body
from veilmatch.server.matcher.gallery.changes import by_leaf, contents_of, mutation_of
from veilmatch.server.matcher.gallery.mutation import Template, initial_chain

BASE = mutation(1, added=[(0, 1, "ada"), (1, 0, "bela")], removed=[(0, 2), (1, 3)])
ADA, BELA = BASE.added
OTHER = content("other", RECORD_BYTES)

CHANGES: list[dict[str, Any]] = [
    {"kind": "bulk"},
    {"token": b"token 2"},
    {"token": b"token 1\0"},
    {"token": BASE.token + BASE.request_digest[:1], "request_digest": BASE.request_digest[1:]},
    {"request_digest": content("other", 32)},
    {"result": "{}"},
    {"model": "model-2"},
    {"result": BASE.result + BASE.model[:1], "model": BASE.model[1:]},
    {"device": "device-9"},
    {"model": BASE.model + BASE.device[:1], "device": BASE.device[1:]},
    {"packs": {0: BASE.packs[0]}},
    {"packs": {0: BASE.packs[1], 1: BASE.packs[0]}},
    {"packs": {0: BASE.packs[0], 2: BASE.packs[1]}},
    {"packs": {0: BASE.packs[0], 1: content("other", PACK_BYTES)}},
    {"packs": {0: BASE.packs[0] + BASE.packs[1][:1], 1: BASE.packs[1][1:]}},
    {"added": [ADA]},
    {"added": [ADA, replace(BELA, record=OTHER)]},
    {"added": [ADA, replace(BELA, subject="bel")]},
    {"added": [ADA, replace(BELA, subject="bela" + chr(BELA.record[0] & 0x7F))]},
    {"added": [ADA, replace(BELA, slot=5)]},
    {"added": [ADA, replace(BELA, by_device=not BELA.by_device)]},
    {"added": [ADA, replace(BELA, pack=0)]},
    {"added": [replace(ADA, subject="bela"), replace(BELA, subject="ada")]},
    {"added": [ADA, replace(BELA, terms=Terms(1).encode())]},
    {"added": [ADA, replace(BELA, terms=Terms(2).encode())]},
    {"made_s": 1},
    {"made_s": 2},
    {"removed": [(0, 2)]},
    {"removed": [(0, 2), (1, 4)]},
    {"removed": [(0, 3), (1, 2)]},
    {"removed": [(0, 2), (1, 3), (1, 4)]},
    {"retired": [(0, 2)]},
    {"retired": [(1, 3)]},
    {"retired": [(0, 2), (1, 3)]},
]


def test_every_change_changes_the_digest() -> None:
    digests = {BASE.digest()} | {replace(BASE, **change).digest() for change in CHANGES}
    assert len(digests) == 1 + len(CHANGES)
    assert all(len(digest) == 32 for digest in digests)


def test_the_order_of_parts_does_not_change_the_digest() -> None:
    turned = replace(
        BASE,
        packs=dict(reversed(list(BASE.packs.items()))),
        added=list(reversed(BASE.added)),
        removed=list(reversed(BASE.removed)),
    )
    assert turned.digest() == BASE.digest()


def test_an_added_template_is_not_taken_for_a_removed_one() -> None:
    assert mutation(1, added=[(0, 0, "ada")]).digest() != mutation(1, removed=[(0, 0)]).digest()


def test_the_chain_depends_on_everything_before() -> None:
    first, second = BASE.digest(), mutation(2, removed=[(0, 1)]).digest()
    start = initial_chain("staff", KEY_ID, PARAMETERS)
    values = {
        start,
        initial_chain("guests", KEY_ID, PARAMETERS),
        initial_chain("staff", b"another key     ", PARAMETERS),
        initial_chain("staff", KEY_ID, ParameterSet(dimension=5, modulus_bits=512)),
        next_chain(start, 1, first),
        next_chain(start, 2, first),
        next_chain(start, 1, second),
        next_chain(next_chain(start, 1, first), 2, second),
        next_chain(next_chain(start, 1, second), 2, first),
    }
    assert len(values) == 9


def test_gallery_name_and_key_cannot_be_shifted_into_each_other() -> None:
    assert initial_chain("staffk", b"ey", PARAMETERS) != initial_chain("staff", b"key", PARAMETERS)


def test_digest_and_chain_are_those_of_this_version() -> None:
    """Galleries on disk depend on these bytes; a change needs a new version, not a new expectation."""
    assert BASE.digest().hex() == "05e7f25aa703514ca3fe3644c1ecca92225a388cbd922971c28c7d737aed23a2"
    assert (
        initial_chain("staff", KEY_ID, replace(PARAMETERS, lane_bits=EARLIER_LANE_BITS)).hex()
        == "e0cf94ab3f0d106aa1dcae8b10c6d12f34cec79f87f48477e3714b691694f7f0"
    )
    assert (
        next_chain(bytes(32), 1, bytes(32)).hex() == "d625553bae470a391f73b65e2d4d196934a9cc24b242aab943e29e81dd18fa99"
    )


def test_a_body_has_one_encoding_and_no_name_of_a_subject_in_it() -> None:
    body = replace(BASE, retired=[(0, 2)]).body
    data = body.encode()
    assert Body.decode(data) == body and Body.decode(data).digest() == body.digest()
    assert b"ada" not in data and ADA.record[:8] not in data
    for wrong in (
        data + b" ",
        data[:-1],
        b"[]",
        b"",
        data.replace(b'"kind":"enrol"', b'"kind":"enrol","kind":"enrol"'),
        data.replace(b'"removed":[[0,2]', b'"removed":[[0.0,2]'),
        data.replace(b"true", b"1"),
        data.replace(b'"token":"', b'"token":" '),
        data.replace(b"veilmatch change 1", b"veilmatch change 2"),
    ):
        assert wrong != data
        with pytest.raises(IntegrityError, match="one encoding"):
            Body.decode(wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "rename"},
        {"token": b""},
        {"request_digest": b""},
        {"device": ""},
        {"packs": {0: BASE.packs[0]}},
        {"packs": {**BASE.packs, 2: b"short"}},
        {"packs": {**BASE.packs, -1: BASE.packs[0]}},
        {"packs": {**BASE.packs, 1 << 70: BASE.packs[0]}},
        {"model": ""},
        {"added": []},
        {"added": [ADA, replace(BELA, record=b"short")]},
        {"added": [ADA, replace(BELA, subject="")]},
        {"added": [ADA, replace(BELA, slot=PARAMETERS.slots)]},
        {"added": [ADA, replace(BELA, slot=-1)]},
        {"added": [ADA, Template(0, 1, "cid", OTHER, by_device=False)]},
        {"removed": [(0, 2), (0, 2)]},
        {"removed": [(2, 0)]},
        {"retired": [(0, 3)]},
        {"retired": [(0, 2), (0, 2)]},
        {"removed": [(0, 1)], "retired": [(0, 1)]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_mutation_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    BASE.check(PARAMETERS)
    with pytest.raises(IntegrityError):
        replace(BASE, **change).check(PARAMETERS)


@pytest.mark.parametrize("made_s", [0, 1_700_000_000])
def test_a_change_that_is_put_together_again_of_body_and_contents_is_the_same(made_s: int) -> None:
    """As one matcher finishes what another has accepted: in any field less it would be another change."""
    made = replace(BASE, made_s=made_s)
    again = mutation_of(made.body, by_leaf(contents_of(made)))
    assert again.body.encode() == made.body.encode() and again.digest() == made.digest()
    assert {field: getattr(again, field) for field in ("packs", "made_s", "result")} == {
        field: getattr(made, field) for field in ("packs", "made_s", "result")
    }
