"""Choosing a threshold for a false match rate, and writing it where a device reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from veilmatch.client.config import DeviceSettings
from veilmatch.client.evaluation.figures.rates import curve
from veilmatch.client.evaluation.thresholds import Target, can_show, operating_threshold
from veilmatch.common.hints import hint
from veilmatch.crypto.errors import ConfigurationError, DeviceCertificateError, InvalidInputError, KeyMismatchError
from veilmatch.crypto.parameters import D128_COARSE, D512

from .conftest import DEVICE, TOY, certified


def test_threshold_is_the_lowest_that_keeps_the_rate() -> None:
    scores, genuine = np.array([1500.0, 1400, 1300, 900, 700]), np.array([True, True, False, False, False])
    assert operating_threshold(curve(scores, genuine), 0.1, D128_COARSE) == 1400
    assert operating_threshold(curve(scores, genuine), 0.4, D128_COARSE) == 1300


def test_threshold_may_lie_above_every_score() -> None:
    scores, genuine = np.array([900.0, 1200, 700]), np.array([True, False, False])
    assert operating_threshold(curve(scores, genuine), 0.1, D128_COARSE) == 1201


def test_threshold_is_at_least_one() -> None:
    scores, genuine = np.array([10.0, -5, -20]), np.array([True, True, False])
    assert operating_threshold(curve(scores, genuine), 0.5, D128_COARSE) == 1


def test_one_person_under_two_names_leaves_no_threshold() -> None:
    scores, genuine = np.array([3000.0, 3700, 100]), np.array([True, False, False])
    with pytest.raises(InvalidInputError, match="under two names"):
        operating_threshold(curve(scores, genuine), 0.1, D128_COARSE)


@pytest.mark.parametrize(("impostors", "shown"), [(2999, False), (3000, True)])
def test_a_rate_needs_three_times_its_inverse_comparisons(impostors: int, shown: bool) -> None:
    assert can_show(1e-3, impostors) is shown


def test_threshold_is_written_and_everything_else_stays(device: Path) -> None:
    Target.read(device, TOY).write(TOY.threshold(0.383))
    assert device.read_text() == DEVICE.replace("0.40", "0.383")
    assert DeviceSettings.load(device).threshold == 0.383
    assert device.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in device.parent.iterdir()) == ["device.toml", "public.json"]


def test_threshold_is_added_before_the_tables(device: Path) -> None:
    device.write_text(DEVICE.replace("threshold = 0.40  # from the manual\n", ""))
    Target.read(device, TOY).write(TOY.threshold(0.383))
    assert DeviceSettings.load(device).threshold == 0.383


def test_linked_configuration_stays_a_link(device: Path) -> None:
    link = device.parent / "link.toml"
    link.symlink_to(device)
    Target.read(link, TOY).write(TOY.threshold(0.383))
    assert link.is_symlink() and DeviceSettings.load(device).threshold == 0.383


def test_another_parameter_set_is_refused(device: Path) -> None:
    with pytest.raises(KeyMismatchError, match="another parameter set"):
        Target.read(device, D512)
    assert device.read_text() == DEVICE


def test_what_is_no_configuration_of_a_device_is_refused(device: Path) -> None:
    device.write_text("threshold = 0.4\n")
    with pytest.raises(ConfigurationError, match="matchers"):
        Target.read(device, TOY)


def test_device_without_its_key_is_refused(device: Path) -> None:
    (device.parent / "public.json").unlink()
    with pytest.raises(ConfigurationError, match="public key cannot be read"):
        Target.read(device, TOY)


def test_a_device_is_not_given_a_threshold_that_its_certificate_does_not_allow(device: Path) -> None:
    certified(device, lowest={"identify": 0.40, "verify": 0.45})
    before = device.read_text()
    target = Target.read(device, TOY)
    with pytest.raises(InvalidInputError, match="below the lowest of the device's certificate for verify") as caught:
        target.write(TOY.threshold(0.45) - 1)
    assert caught.value.exit_status == 3 and "0.45" in str(caught.value.expected)
    assert "0.45" in hint(caught.value) and "device request" in hint(caught.value)
    assert device.read_text() == before
    assert target.write(TOY.threshold(0.45)) == 0.45 == DeviceSettings.load(device).threshold


def test_a_certificate_of_another_device_is_told_before_anything_is_measured(device: Path) -> None:
    certified(device, lowest={"verify": 0.45}, name="window")
    with pytest.raises(DeviceCertificateError, match="another device"):
        Target.read(device, TOY)
