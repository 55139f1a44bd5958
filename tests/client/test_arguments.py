"""What callers pass: numbers and names of any library, in one form or refused; no error quotes what may be a photo."""

from __future__ import annotations

import base64
import math
import re
import unicodedata
from collections.abc import Awaitable, Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilmatch import AsyncClient
from veilmatch.client.given.arguments import checked_cosine, checked_name, checked_pairs, finite_seconds
from veilmatch.crypto.errors import InvalidInputError, UnknownSubjectError, VeilmatchError
from veilmatch.crypto.requests import check_subject

from .conftest import face
from .fakes import FakeMatchers

# -- numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (1, 1.0),
        (0.55, 0.55),
        (np.float16(0.55), 0.55),
        (np.float32(0.55), 0.55),
        (np.float64(0.55), 0.55),
        (np.longdouble("0.55"), 0.55),
        (np.int8(1), 1.0),
        (np.uint64(1), 1.0),
        (Fraction(1, 4), 0.25),
        (Decimal("0.55"), 0.55),
    ],
    ids=lambda v: f"{type(v).__name__}",
)
def test_every_real_number_is_a_threshold_and_a_time_out(number: Any, value: float) -> None:
    for found in (checked_cosine(number), finite_seconds(number)):
        assert type(found) is float and found == value


class _Wild(float):
    def __float__(self) -> float:
        raise RuntimeError("0.123")


@pytest.mark.parametrize(
    "number",
    [
        True,
        np.True_,
        "0.5",
        b"1",
        None,
        1j,
        np.complex64(1),
        np.array(0.5),
        np.array([0.5]),
        [0.5],
        np.datetime64("2024-01-01"),
        np.timedelta64(5, "s"),
        10**400,
        Fraction(10**400),
        _Wild(0.5),
    ],
    ids=lambda v: f"{type(v).__name__}",
)
def test_what_is_no_real_number_is_neither(number: Any) -> None:
    for check in (checked_cosine, finite_seconds):
        with pytest.raises(InvalidInputError) as caught:
            check(number)
        assert "0.123" not in str(caught.value)


@pytest.mark.parametrize("number", [0, -1, math.nan, math.inf, np.float32("nan"), Decimal("NaN"), Decimal("sNaN")])
def test_a_time_out_is_positive_and_finite(number: Any) -> None:
    with pytest.raises(InvalidInputError):
        finite_seconds(number)


@given(st.floats(0.0078125, 1, width=32))
def test_a_number_of_single_precision_counts_as_it_is_written(value: float) -> None:
    single = np.float32(value)
    assert checked_cosine(single) == float(np.format_float_positional(single))
    assert np.float32(checked_cosine(single)) == single


# -- names ---------------------------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@given(names)
def test_every_name_has_one_form_or_is_refused_with_its_character(name: str) -> None:
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    try:
        checked = [checked_name(form) for form in forms]
    except InvalidInputError as error:
        match = re.match(r"U\+([0-9A-F]{4,6}) ", error.got or "")
        assert match is not None and chr(int(match[1], 16)) in unicodedata.normalize("NFC", name)
        return
    assert checked[0] == checked[1] == check_subject(checked[0])
    assert unicodedata.normalize("NFC", name) == checked[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("山田\u3000太郎", "U+3000 IDEOGRAPHIC SPACE in place 3"),
        ("می\u200cخواهم", "U+200C ZERO WIDTH NON-JOINER in place 3"),
        ("👩\u200d🚀", "U+200D ZERO WIDTH JOINER in place 2"),
        ("a\u00a0b", "U+00A0 NO-BREAK SPACE in place 2"),
        ("a\tb", "U+0009 (no name) in place 2"),
        ("a\ud800", "U+D800 (no name) in place 2"),
        (" ada", "U+0020 SPACE at the start"),
        ("ada ", "U+0020 SPACE at the end"),
    ],
)
def test_a_name_is_refused_by_the_name_of_its_character(name: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        checked_name(name)
    assert caught.value.got == said


def test_servers_take_composed_names_only_and_say_what_is_not() -> None:
    assert checked_name("e\u0301va") == "éva"
    with pytest.raises(InvalidInputError) as caught:
        check_subject("e\u0301va")
    assert caught.value.got == "U+0065 LATIN SMALL LETTER E in place 1"


async def test_both_forms_of_a_name_are_one_subject_everywhere(client: AsyncClient, fakes: FakeMatchers) -> None:
    apart, whole = "e\u0301va", "éva"
    fakes.looks_like = {whole}
    await client.enrol(apart, "1.jpg")
    await client.enrol_embedding(apart, face(1), model="toy")
    await client.enrol_many([(apart, "2.jpg")])
    await client.enrol_many_embeddings([(apart, face(3))], model="toy")
    assert fakes.templates == [whole] * 4
    for verified in (
        await client.verify(apart, "door.jpg"),
        await client.verify_embedding(apart, face(1), model="toy"),
    ):
        assert verified and verified.subject == whole
    await client.take_back(apart, bytes(16))
    assert (await client.erase(apart)).templates == 3


# -- lists ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [b"photo", 7, None, ["ada.jpg"], [("ada",)], [("ada", 1, 2)], [None]])
def test_what_is_no_list_of_pairs_is_refused(pairs: Any) -> None:
    with pytest.raises(InvalidInputError, match="not a list of photos"):
        checked_pairs("photo", pairs)


# -- nothing of a photo in any error -------------------------------------------------------------------

PHOTO = "data:image/jpeg;base64," + base64.b64encode(np.random.default_rng(5).bytes(3000)).decode()
VALUES = (PHOTO, PHOTO.partition(",")[2], PHOTO.encode(), [PHOTO], {PHOTO: PHOTO})
CALLS: dict[str, Callable[[AsyncClient, Any], Awaitable[object]]] = {
    "verify": lambda c, v: c.verify(v, "empty.jpg"),
    "verify photo": lambda c, v: c.verify("ada", v),
    "threshold": lambda c, v: c.verify("ada", "door.jpg", threshold=v),
    "time-out": lambda c, v: c.verify("ada", "door.jpg", timeout_s=v),
    "embedding": lambda c, v: c.verify_embedding("ada", v, model="toy"),
    "model": lambda c, v: c.verify_embedding("ada", face(1), model=v),
    "candidates": lambda c, v: c.candidates_embedding(v, model="toy"),
    "identify": lambda c, v: c.identify("door.jpg", threshold=v),
    "enrol": lambda c, v: c.enrol(v, "1.jpg"),
    "enrol photos": lambda c, v: c.enrol("ada", "1.jpg", v, once=True),
    "token": lambda c, v: c.enrol("ada", "1.jpg", token=v),
    "enrol embedding": lambda c, v: c.enrol_embedding("ada", face(1), v, model="toy"),
    "many": lambda c, v: c.enrol_many(v),
    "many subjects": lambda c, v: c.enrol_many([(v, "1.jpg")]),
    "many photos": lambda c, v: c.enrol_many([("ada", v)], once=True),
    "many embeddings": lambda c, v: c.enrol_many_embeddings([("ada", v)], model="toy"),
    "erase": lambda c, v: c.erase(v),
    "take back": lambda c, v: c.take_back("ada", v),
    "rotate": lambda c, v: c.rotate(v),
}


@pytest.mark.parametrize("value", VALUES, ids=["data URL", "base64", "bytes", "list", "mapping"])
@pytest.mark.parametrize("call", CALLS)
async def test_no_error_quotes_a_photo_in_whatever_place(client: AsyncClient, call: str, value: Any) -> None:
    try:
        await CALLS[call](client, value)
    except VeilmatchError as error:
        said = f"{error} {error!r} {error.fields()}"
        assert not any(PHOTO[i : i + 16] in said for i in range(30, len(PHOTO), 16))


# -- which one -----------------------------------------------------------------------------------------


async def test_an_unusable_photo_of_several_is_named(client: AsyncClient) -> None:
    with pytest.raises(InvalidInputError, match=r"^ada, photo 2 of 3 \(empty\.jpg\): there is no face"):
        await client.enrol("ada", "1.jpg", "folder/empty.jpg", "3.jpg")
    with pytest.raises(InvalidInputError, match=r"^ada, embedding 2 of 2: "):
        await client.enrol_embedding("ada", face(1), face(2)[:3], model="toy")
    told: list[tuple[str, VeilmatchError]] = []
    people = [("ada", "1.jpg"), ("bob", "people/empty.jpg"), (" cyd", "3.jpg")]
    await client.enrol_many(people, skipped=lambda subject, error: told.append((subject, error)))
    assert [subject for subject, _ in told] == ["bob", " cyd"]
    assert told[0][1].message.startswith("bob, photo 2 of 3 (empty.jpg): there is no face")
    assert "photo 3 of 3 (3.jpg)" in told[1][1].message


async def test_an_unknown_subject_is_named(client: AsyncClient, fakes: FakeMatchers) -> None:
    def refuse(kind: str, request: Any) -> None:
        raise UnknownSubjectError("the gallery has no such subject")

    fakes.a.before = fakes.b.before = refuse
    for ask in (
        lambda: client.verify("ada", "door.jpg"),
        lambda: client.erase("ada"),
        lambda: client.take_back("ada", bytes(16)),
    ):
        with pytest.raises(UnknownSubjectError, match=r"^ada: "):
            await ask()
