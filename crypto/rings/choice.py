"""Which backend does the arithmetic mod N^2, and why.

The best one that the processor runs, unless the environment variable VEILMATCH_BACKEND names another:
`ifma` (AVX-512 IFMA), `avx2`, or `gmpy2`, which runs everywhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.rings.reference import ReferenceRing
from veilmatch.crypto.rings.ring import Ring

try:
    from veilmatch.crypto import _kernel
except ImportError:  # installed without a compiler
    _kernel = None  # type: ignore[assignment]

VARIABLE = "VEILMATCH_BACKEND"
REFERENCE = "gmpy2"
NATIVE = ("ifma", "avx2")


@dataclass(frozen=True, slots=True)
class Choice:
    """backend: its name; reason: why it is this one, for people."""

    backend: str
    reason: str


def kernel_is_built() -> bool:
    """Return whether the installation has the native kernel."""
    return _kernel is not None


def available() -> tuple[str, ...]:
    """Return the backends that run here, best first."""
    native = () if _kernel is None else tuple(name for name, _, _ in _kernel.backends())
    return (*native, REFERENCE)


def choose() -> Choice:
    """Return the backend to use. Raises ConfigurationError if VEILMATCH_BACKEND names one that does not run here."""
    runs, wanted = available(), os.environ.get(VARIABLE, "")
    if wanted:
        if wanted not in (*NATIVE, REFERENCE):
            raise ConfigurationError(
                f"{VARIABLE} names no backend", got=wanted[:40], expected=" or ".join((*NATIVE, REFERENCE))
            )
        if wanted not in runs:
            raise ConfigurationError(
                f"{VARIABLE} names a backend that cannot run: {_obstacle()}", got=wanted, expected=" or ".join(runs)
            )
        return Choice(wanted, f"{VARIABLE} says so")
    if runs[0] == REFERENCE:
        return Choice(REFERENCE, _obstacle())
    return Choice(runs[0], "the fastest that this processor runs")


def make_ring(modulus: Integer) -> Ring:
    """Return the ring mod modulus^2 on the backend that `choose` names. Raises ConfigurationError as it does."""
    backend = choose().backend
    if backend == REFERENCE:
        return ReferenceRing(modulus)
    from veilmatch.crypto.rings.native import NativeRing  # the kernel may not have been built

    return NativeRing(modulus, backend)


def _obstacle() -> str:
    if not kernel_is_built():
        return "the native kernel was not built at installation (no C compiler?)"
    return "this processor lacks the instructions"
