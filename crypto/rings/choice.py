"""Which backend does the arithmetic mod N^2, and why.

The best one that the processor runs, unless the environment variable VEILMATCH_BACKEND names another:
`ifma` (AVX-512 IFMA, eight numbers at a time), `ifma4` (four), `avx2`, `portable` (one, on any 64-bit processor), or
`gmpy2`, which runs everywhere. `portable` comes before `gmpy2` by rule: pair form saves a third of the limb products
and more on whatever processor, tables are read whole, and threads work side by side.

With `ifma`, up to four numbers go to `ifma4` where that is faster. Some processors do two instructions a cycle on
registers of 256 bits and one on those of 512 (Zen 4), others as many on either, and none has a flag that says which. So
it is measured: a product of four against one of eight, once a process and size (native/ring.py). A measurement
that is disturbed costs time and nothing else: both give the same numbers.
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
NATIVE = ("ifma", "ifma4", "avx2", "portable")
#: Who takes the few numbers that would leave most lanes of a backend empty.
FEW = {"ifma": "ifma4"}
#: Who raises one or two numbers. Both parts of a number side by side take 1.8 steps where pair form takes 3.1, so that
#: it is faster on whatever registers.
TWO = {"ifma": "ifma4", "ifma4": "ifma4"}


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
    from veilmatch.crypto.rings.native.ring import NativeRing, few_are_faster  # the kernel may not have been built

    few, two = (name if name in available() else None for name in (FEW.get(backend), TWO.get(backend)))
    if few is not None and not few_are_faster(backend, few, modulus.bit_length()):
        few = None
    return NativeRing(modulus, backend, few, two)


def _obstacle() -> str:
    if not kernel_is_built():
        return "the native kernel was not built at installation (no C compiler?)"
    return "this processor lacks the instructions"
