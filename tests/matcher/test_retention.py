"""What is due: by age, by idleness and by the end of a consent, and only what both organisations say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.matcher.galleries import KEY_ID, PARAMETERS, mutation, run
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.errors import IntegrityError, InvalidInputError, StorageError
from veilmatch.crypto.terms import Terms, require_lasting
from veilmatch.server.config import RetentionSettings
from veilmatch.server.matcher.gallery.disk.reading import Detail
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.retention.asked import AskedDays
from veilmatch.server.matcher.retention.rules import DAY_S, Due, due, in_both

TODAY = 20_000
NOW_S = TODAY * DAY_S + 3600.0
RULES = RetentionSettings(max_days=365, idle_days=30)


def template(slot: int, *, age_days: int | None = 0, asked_days_ago: int = 0, consent: Consent | None = None) -> Detail:
    terms = b"" if age_days is None else Terms(int(NOW_S) - age_days * DAY_S, consent).encode()
    return Detail(f"subject {slot}", 0, slot, 1, False, terms, TODAY - asked_days_ago)


ENDED, LASTING = Consent("c", "1", int(NOW_S)), Consent("c", "1", int(NOW_S) + 1)


def test_each_rule_by_itself_and_the_first_reason_counts_once() -> None:
    templates = [
        template(0),
        template(1, age_days=364),
        template(2, age_days=365),
        template(3, asked_days_ago=30),
        template(4, asked_days_ago=31),
        template(5, consent=ENDED),
        template(6, consent=LASTING),
        template(7, age_days=365, asked_days_ago=31, consent=ENDED),
        template(8, age_days=None),
        template(9, age_days=None, asked_days_ago=31),
    ]
    found = due(templates, RULES, NOW_S)
    expected = {(0, 2): "age", (0, 4): "idle", (0, 5): "consent", (0, 7): "consent", (0, 9): "idle"}
    assert (found.places, found.undated) == (expected, 2)
    assert found.counts() == {"consent": 2, "age": 1, "idle": 2}


def test_without_rules_everything_is_kept_and_without_numbers_all_but_ended_consents() -> None:
    templates = [template(0, age_days=9999, asked_days_ago=9999), template(1, consent=ENDED)]
    assert due(templates, None, NOW_S).places == {}
    assert due(templates, RetentionSettings(), NOW_S).places == {(0, 1): "consent"}


places = st.sets(st.tuples(st.integers(0, 4), st.integers(0, 6)))


@given(mine=places, theirs=places)
def test_two_bitmaps_have_in_common_what_both_say(mine: set[tuple[int, int]], theirs: set[tuple[int, int]]) -> None:
    first, second = (Due(dict.fromkeys(said, "age"), 0).bitmap(5, 7) for said in (mine, theirs))
    assert in_both(first, second, 7) == sorted(mine & theirs)


async def test_days_are_written_now_and_then_and_never_go_back(tmp_path: Path) -> None:
    store = Store(tmp_path, KEY_ID, PARAMETERS)
    store.open_gallery("staff")
    run(store, "staff", mutation(1, added=[(0, 0, "ada"), (0, 1, "bela")]))
    first = {one.slot: one.asked_day for one in store.details("staff")}
    now_s = [(first[0] + 3) * DAY_S + 5.0]
    asked = AskedDays({"staff": store}, lambda: now_s[0])
    asked.note("staff", [(0, 0)])
    assert {one.slot: one.asked_day for one in store.details("staff")} == first
    await asked.flush()
    now_s[0] -= 2 * DAY_S
    asked.note("staff", [(0, 0), (0, 1)])
    async with asked.running():
        pass
    assert {one.slot: one.asked_day for one in store.details("staff")} == {0: first[0] + 3, 1: first[1] + 1}
    store.close()


async def test_what_cannot_be_written_is_noted_still() -> None:
    class Full:
        days: list[int]

        def note_asked(self, name: str, day: int, places: object) -> None:
            raise StorageError("full")

    asked = AskedDays({"staff": Full()}, lambda: NOW_S)  # type: ignore[dict-item]
    asked.note("staff", [(0, 0)])
    for _ in range(2):
        with pytest.raises(StorageError):
            await asked.flush()
    async with asked.running():
        pass


# -- consents and terms ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [("",), ("x" * 129,), (" x",), ("a\nb",), ("x", "v" * 33), ("x", "", -1), ("x", "", True), ("x", "", 1.5), (3,)],
    ids=str,
)
def test_a_consent_is_bounded(fields: tuple[object, ...]) -> None:
    with pytest.raises(InvalidInputError):
        Consent(*fields)  # type: ignore[arg-type]


@given(st.text(max_size=200), st.text(max_size=40), st.integers(-1, 1 << 54))
def test_what_can_be_a_consent_has_one_encoding(reference: str, version: str, expires_s: int) -> None:
    try:
        consent = Consent(reference, version, expires_s)
    except InvalidInputError:
        return
    assert Consent.decode(consent.encode()) == consent
    terms = Terms(1, consent)
    assert Terms.decode(terms.encode()) == terms
    with pytest.raises(InvalidInputError):
        Consent.decode(consent.encode() + b" ")


@pytest.mark.parametrize("data", [b"{}", b"[]", b'["a","",0] ', b'["a","",0,1]', b"\xff", b"x" * 5000], ids=str)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError):
        Consent.decode(data)
    with pytest.raises(IntegrityError):
        Terms.decode(data)


def test_an_enrolment_is_not_under_a_consent_that_has_ended_or_without_a_date() -> None:
    require_lasting(LASTING.encode(), int(NOW_S))
    for consent, made_s in ((ENDED, int(NOW_S)), (LASTING, 0)):
        with pytest.raises(InvalidInputError):
            require_lasting(consent.encode(), made_s)
    assert "reference" not in repr(Terms(1, LASTING)) and Terms.decode(b"") is None
