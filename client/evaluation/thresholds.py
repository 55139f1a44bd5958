"""From a false match rate to the threshold of a device, and into its configuration."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from veilmatch.client.certificate import OwnCertificate
from veilmatch.client.config import DeviceSettings
from veilmatch.client.evaluation.figures.rates import Curve
from veilmatch.client.evaluation.libraries import require
from veilmatch.client.wire.signing import DeviceKey
from veilmatch.common.public_file import read_public_file
from veilmatch.common.toml_file import read_text
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


@dataclass(frozen=True)
class Target:
    """The device.toml that a measured threshold is for. `read` it before measuring, `write` it after."""

    path: Path
    parameters: ParameterSet
    certificate: OwnCertificate | None

    @staticmethod
    def read(path: Path, parameters: ParameterSet) -> Target:
        """Look at everything that could stand in the way of `write`, as the device itself would.

        Raises ConfigurationError if the file is not a device's configuration or cannot be written, KeyMismatchError if
        the device's key is of another parameter set, KeyFileError or DeviceCertificateError if it has a certificate
        that is not its own.
        """
        settings = DeviceSettings.load(path)
        public = read_public_file(settings.public_key)
        theirs = public.public_key.parameters
        if (theirs.dimension, theirs.scale, theirs.clip) != (parameters.dimension, parameters.scale, parameters.clip):
            raise KeyMismatchError(
                "the device uses another parameter set than this evaluation", got=theirs.name, expected=parameters.name
            )
        certificate = None
        if settings.certificate is not None:
            key = DeviceKey.from_file(settings.signing_key).public_bytes()
            certificate = OwnCertificate.read(settings.certificate, settings.device, key, public)
        require("tomlkit")
        try:
            with tempfile.TemporaryFile(dir=path.resolve().parent):  # as `_replace` needs it
                pass
        except OSError as error:
            raise _not_written(path, error) from None
        return Target(path, parameters, certificate)

    def write(self, t: int) -> float:
        """Set `threshold` to t, 1..S^2, and leave everything else in the file as it is; return the cosine written.

        Raises InvalidInputError, and writes nothing, if the device's certificate allows an operation that compares
        from a higher threshold on only: the device would be refused from then on. ConfigurationError as `read`.
        """
        cosine = self.parameters.cosine(t)
        for operation, lowest in self.certificate.statement.lowest if self.certificate else ():
            if t < lowest:
                allowed = self.parameters.cosine(lowest)
                raise InvalidInputError(
                    f"the measured threshold is below the lowest of the device's certificate for {operation};"
                    f" {self.path} stays as it is",
                    got=f"{t} (cosine {cosine:g})",
                    expected=f"at least {lowest} (cosine {allowed:g})",
                    hint=f"Keep the threshold, or set one of {allowed:g} and above: it errs less often towards a match."
                    " For a lower one, have a certificate signed that allows it: `veilmatch device request --lowest`.",
                )
        tomlkit = require("tomlkit")
        try:
            document = tomlkit.parse(read_text(self.path))
            document["threshold"] = cosine
            _replace(self.path, tomlkit.dumps(document))
        except OSError as error:
            raise _not_written(self.path, error) from None
        return cosine


def _not_written(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError("the configuration cannot be written", got=f"{path}: {error.strerror}")


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
