"""Lowest thresholds as people write them: cosines by operation, and the integers that a certificate gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet
from veilmatch.crypto.requests import WITH_PROBE, Operation
from veilmatch.server.installation.lowest import Lowest, described, device_threshold, document
from veilmatch.server.installation.plan import DEFAULT_THRESHOLD

COSINES = st.integers(1, 1000).map(lambda thousandths: thousandths / 1000)


def test_what_is_not_said_is_the_threshold_that_devices_ask_with() -> None:
    assert Lowest().thresholds(WITH_PROBE, DEFAULT) == tuple((o, 6351) for o in WITH_PROBE)
    assert DeviceSettings.model_fields["threshold"].default == DEFAULT_THRESHOLD


@given(st.dictionaries(st.sampled_from(WITH_PROBE), COSINES), st.none() | COSINES, st.sampled_from([DEFAULT, D512]))
def test_what_is_said_is_what_the_certificate_gets(
    named: dict[Operation, float], others: float | None, parameters: ParameterSet
) -> None:
    texts = [f"{operation}={cosine}" for operation, cosine in named.items()]
    lowest = Lowest.parse(texts if others is None else [str(others), *texts])
    rest = DEFAULT_THRESHOLD if others is None else others
    expected = tuple((o, parameters.threshold(named.get(o, rest))) for o in WITH_PROBE)
    assert lowest.thresholds(WITH_PROBE, parameters) == expected
    assert {o: said["threshold"] for o, said in document(expected, parameters).items()} == dict(expected)
    assert all(
        parameters.threshold(said["cosine"]) == said["threshold"] for said in document(expected, parameters).values()
    )


def test_rights_that_compare_nothing_have_none() -> None:
    assert Lowest().thresholds(("enrol", "verify"), DEFAULT) == (("verify", 6351),)
    assert Lowest().thresholds(("enrol", "erase"), DEFAULT) == ()


def test_a_cosine_of_zero_allows_every_threshold() -> None:
    assert Lowest.parse(["0", "verify=1"]).thresholds(("identify", "verify"), DEFAULT) == (
        ("identify", 1), ("verify", DEFAULT.threshold_max),
    )  # fmt: skip


@pytest.mark.parametrize(
    "texts",
    [
        ["high"], [""], ["="], ["=0.4"], ["verify="], ["verify"], ["verify=high"], ["enrol=0.4"], ["everything=0.4"],
        ["1.01"], ["-0.1"], ["nan"], ["inf"], ["verify=2"], ["a=verify=0.4"], ["Verify=0.4"],
        ["0.4", "0.5"], ["verify=0.4", "verify=0.4"],
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        Lowest.parse(texts)


def test_a_lowest_threshold_of_what_the_device_may_not_do_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no right") as caught:
        Lowest.parse(["identify=0.5"]).thresholds(("enrol", "verify"), DEFAULT)
    assert (caught.value.got, caught.value.expected) == ("identify", "verify")


def test_a_new_device_begins_with_a_threshold_that_it_is_allowed_everywhere() -> None:
    for texts, expected in ((["0"], 0.40), ([], 0.40), (["verify=0.45"], 0.45), (["0.5", "verify=0.453"], 0.5)):
        lowest = Lowest.parse(texts).thresholds(WITH_PROBE, DEFAULT)
        assert device_threshold(lowest, DEFAULT) == expected
        assert all(DEFAULT.threshold(expected) >= t for _, t in lowest)
    assert device_threshold((), DEFAULT) == 0.40


def test_people_read_cosines_and_integers() -> None:
    lowest: tuple[tuple[Operation, int], ...] = (("identify", 7145), ("verify", 6351))
    assert described(lowest, DEFAULT) == "identify 0.45 (7145), verify 0.4 (6351)"
    assert described(lowest, None) == "identify 7145, verify 6351"
    assert described((("verify", DEFAULT.threshold_max + 1),), DEFAULT) == "verify 15877"
    assert described((), DEFAULT) == "none"
    assert document(lowest[1:], None) == {"verify": {"threshold": 6351, "cosine": None}}
