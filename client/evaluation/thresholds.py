"""From a false match rate to the threshold of a device, and into its configuration."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

from veilmatch.client.config import DeviceSettings
from veilmatch.client.evaluation.libraries import require
from veilmatch.client.evaluation.rates import Curve
from veilmatch.common.toml_file import read_text
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, InvalidInputError, KeyMismatchError
from veilmatch.crypto.parameters import ParameterSet


def operating_threshold(curve: Curve, fmr: float, parameters: ParameterSet) -> int:
    """Return the integer threshold t, 1..S^2, with at most this FMR and the lowest FNMR, on a curve of integer scores.

    Raises InvalidInputError if even a cosine of 1 has a larger FMR, as when one person is there under two names.
    """
    t = max(1, math.ceil(curve.threshold_at(fmr)))
    if t > parameters.threshold_max:
        raise InvalidInputError(
            "no threshold has so low a false match rate: is one person there under two names?",
            got=f"impostor scores of {parameters.threshold_max} and above",
            expected=f"FMR {fmr:g}",
        )
    return t


def can_show(fmr: float, impostors: int) -> bool:
    """Whether so many impostor comparisons can show this FMR at all: at least 3/FMR, by the rule of three."""
    return impostors * fmr >= 3


def write_threshold(path: Path, cosine: float, parameters: ParameterSet) -> None:
    """Set `threshold` in a device's configuration and leave everything else in the file as it is.

    Raises ConfigurationError if the file is not a device's configuration or cannot be written, KeyMismatchError if
    the device's key is of another parameter set.
    """
    settings = DeviceSettings.load(path)
    try:
        theirs = PublicFile.decode(settings.public_key.read_bytes()).public_key.parameters
    except OSError as error:
        raise ConfigurationError(
            "the public key cannot be read", got=f"{settings.public_key}: {error.strerror}"
        ) from None
    if (theirs.dimension, theirs.scale, theirs.clip) != (parameters.dimension, parameters.scale, parameters.clip):
        raise KeyMismatchError(
            "the device uses another parameter set than this evaluation", got=theirs.name, expected=parameters.name
        )
    tomlkit = require("tomlkit")
    try:
        document = tomlkit.parse(read_text(path))
        document["threshold"] = cosine
        _replace(path, tomlkit.dumps(document))
    except OSError as error:
        raise ConfigurationError("the configuration cannot be written", got=f"{path}: {error.strerror}") from None


def _replace(path: Path, text: str) -> None:
    """Write text in place of a file at once, with its permissions: a reader sees the old or the new one."""
    target = path.resolve()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", dir=target.parent, delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh = Path(file.name)
    fresh.chmod(target.stat().st_mode & 0o777)
    fresh.replace(target)
