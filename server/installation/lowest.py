"""The lowest thresholds of a device, as people write and read them: cosines, by operation.

    lowest = Lowest.parse(["0.40", "identify=0.45"])
    lowest.thresholds(("identify", "verify"), parameters)      # (("identify", 7145), ("verify", 6351))

A certificate holds integers, which mean something under the installation's parameter set only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import WITH_PROBE, Operation
from veilmatch.server.installation.plan import DEFAULT_THRESHOLD

Bounds: TypeAlias = tuple[tuple[Operation, int], ...]
"""The lowest t of each operation, as `Statement.lowest` holds it."""


@dataclass(frozen=True)
class Lowest:
    """The lowest cosine of each operation that compares a probe, 0..1; 0 allows every threshold.

    named: by operation. others: of those that `named` has not. Raises ConfigurationError for an operation that
    compares nothing, or a cosine that is none.
    """

    named: Mapping[Operation, float] = field(default_factory=dict)
    others: float = DEFAULT_THRESHOLD

    def __post_init__(self) -> None:
        for operation in self.named:
            if operation not in WITH_PROBE:
                raise ConfigurationError(
                    "not an operation with a threshold", got=ascii(operation)[:60], expected=", ".join(WITH_PROBE)
                )
        for cosine in (self.others, *self.named.values()):
            if not 0 <= cosine <= 1:
                raise ConfigurationError("not a lowest threshold", got=cosine, expected="a cosine, 0 to 1")

    @staticmethod
    def parse(texts: Iterable[str]) -> Lowest:
        """Return what texts like `verify=0.40`, or `0.40` for all others, say.

        Raises ConfigurationError if one says something else, or two speak of the same.
        """
        said: dict[str | None, float] = {}
        for text in texts:
            name, sign, number = text.rpartition("=")
            operation = name if sign else None
            try:
                cosine = float(number)
            except ValueError:
                raise ConfigurationError(
                    "not a lowest threshold", got=ascii(text)[:60], expected="0.40 or verify=0.40"
                ) from None
            if operation in said:
                raise ConfigurationError("two lowest thresholds for the same operations", got=ascii(text)[:60])
            said[operation] = cosine
        others = said.pop(None, DEFAULT_THRESHOLD)
        return Lowest(cast("dict[Operation, float]", said), others)

    def thresholds(self, rights: Iterable[Operation], parameters: ParameterSet) -> Bounds:
        """Return t for each of the rights that compares a probe, in their order.

        Raises ConfigurationError if one is named for an operation that is not among the rights.
        """
        compared = [right for right in rights if right in WITH_PROBE]
        if beyond := [operation for operation in self.named if operation not in compared]:
            raise ConfigurationError(
                "a lowest threshold of an operation that the device has no right to",
                got=beyond[0],
                expected=", ".join(compared) or "none",
            )
        cosines = {operation: self.named.get(operation, self.others) for operation in compared}
        return tuple((o, parameters.threshold(cosine) if cosine else 1) for o, cosine in cosines.items())


def device_threshold(lowest: Bounds, parameters: ParameterSet) -> float:
    """Return the cosine for a new device to begin with: the default, or what its certificate allows for all it does."""
    highest = max((t for _, t in lowest), default=1)
    return parameters.cosine(highest) if highest > parameters.threshold(DEFAULT_THRESHOLD) else DEFAULT_THRESHOLD


def described(lowest: Bounds, parameters: ParameterSet | None) -> str:
    """Return a certificate's lowest thresholds for people; without cosines if the parameter set is not known."""
    shown = [f"{o} {t}" if cosine is None else f"{o} {cosine} ({t})" for o, t, cosine in _cosines(lowest, parameters)]
    return ", ".join(shown) or "none"


def document(lowest: Bounds, parameters: ParameterSet | None) -> dict[str, Any]:
    """Return the same for programs: threshold, and cosine or None, by operation."""
    return {o: {"threshold": t, "cosine": cosine} for o, t, cosine in _cosines(lowest, parameters)}


def _cosines(lowest: Bounds, parameters: ParameterSet | None) -> list[tuple[Operation, int, float | None]]:
    # A certificate that is shown may be one that is refused.
    known = 0 if parameters is None else parameters.threshold_max
    return [(o, t, parameters.cosine(t) if parameters and t <= known else None) for o, t in lowest]
