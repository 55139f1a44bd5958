"""Which backend runs: the best, or the one that VEILMATCH_BACKEND names, or a clear refusal."""

from __future__ import annotations

import pytest

from tests.kernel.numbers import BACKENDS, MODULI
from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.rings import choice
from veilmatch.crypto.rings.choice import make_ring
from veilmatch.crypto.rings.native import ring as native_ring
from veilmatch.crypto.rings.native.groups import Groups
from veilmatch.crypto.rings.native.limbs import Limbs
from veilmatch.crypto.rings.native.ring import NativeRing
from veilmatch.crypto.rings.reference import ReferenceRing


class KernelOf:
    """A kernel on a processor that runs these backends."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def backends(self) -> list[tuple[str, int, int]]:
        return [(name, 4, 28) for name in self._names]


#: Two rings of the installed kernel, one of which takes few numbers.
NATIVE_OF_BOTH = pytest.mark.skipif("ifma4" not in BACKENDS, reason="this processor has no AVX-512 IFMA")


@pytest.fixture(autouse=True)
def _no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(choice.VARIABLE, raising=False)


def test_the_installed_kernel_is_chosen_if_nothing_is_said() -> None:
    assert choice.kernel_is_built()
    assert choice.available() == (*(name for name, _, _ in _kernel.backends()), "gmpy2")
    assert choice.choose().backend == choice.available()[0]


@pytest.mark.parametrize(
    ("kernel", "backend", "reason"),
    [
        (KernelOf("ifma", "avx2"), "ifma", "fastest"),
        (KernelOf("avx2", "portable"), "avx2", "fastest"),
        (KernelOf("portable"), "portable", "fastest"),
        (KernelOf(), "gmpy2", "lacks the instructions"),
        (None, "gmpy2", "not built"),
    ],
)
def test_the_first_backend_that_runs_is_chosen(
    kernel: KernelOf | None, backend: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_kernel", kernel)
    assert choice.kernel_is_built() == (kernel is not None)
    assert choice.choose().backend == backend
    assert reason in choice.choose().reason


@pytest.mark.parametrize("name", choice.available())
def test_the_variable_names_the_backend(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, name)
    assert choice.choose() == choice.Choice(name, "VEILMATCH_BACKEND says so")
    ring = make_ring(Integer(MODULI["random"](512)))
    assert isinstance(ring, ReferenceRing if name == "gmpy2" else NativeRing)
    assert name == (ring.backend if isinstance(ring, NativeRing) else "gmpy2")
    assert ring.releases_gil == (name != "gmpy2")


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "")
    assert choice.choose().backend == choice.available()[0]


@pytest.mark.parametrize("wish", ["AVX2", "gmp", " ifma", "sse" * 100])
def test_a_name_of_no_backend_is_refused(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, wish)
    with pytest.raises(ConfigurationError, match="VEILMATCH_BACKEND names no backend") as caught:
        choice.choose()
    assert (caught.value.expected, caught.value.got) == ("ifma or ifma4 or avx2 or portable or gmpy2", wish[:40])


@pytest.mark.parametrize(
    ("kernel", "wish", "expected", "obstacle"),
    [
        (KernelOf("avx2"), "ifma", "avx2 or gmpy2", "lacks the instructions"),
        (KernelOf(), "avx2", "gmpy2", "lacks the instructions"),
        (None, "ifma", "gmpy2", "not built"),
    ],
)
def test_a_backend_that_cannot_run_is_refused_with_those_that_can(
    kernel: KernelOf | None, wish: str, expected: str, obstacle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_kernel", kernel)
    monkeypatch.setenv(choice.VARIABLE, wish)
    with pytest.raises(ConfigurationError, match=obstacle) as caught:
        make_ring(Integer(15))
    assert (caught.value.expected, caught.value.got) == (expected, wish)


@NATIVE_OF_BOTH
@pytest.mark.parametrize("faster", [True, False])
def test_few_numbers_go_to_four_lanes_where_that_is_faster(faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, int]] = []
    monkeypatch.setattr(native_ring, "few_are_faster", lambda *which: asked.append(which) or faster)
    ring = make_ring(Integer(MODULI["random"](512)))
    assert isinstance(ring, NativeRing) and (ring.backend, ring.lanes) == ("ifma", 8)
    assert (ring.few.backend if ring.few else None) == ("ifma4" if faster else None)
    assert ring.two is not None and ring.two.backend == "ifma4"
    assert asked == [("ifma", "ifma4", 512)]


@NATIVE_OF_BOTH
@pytest.mark.parametrize("name", ["ifma4", "avx2"])
def test_a_backend_of_four_lanes_has_no_other_for_few(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, name)
    ring = make_ring(Integer(MODULI["random"](512)))
    assert isinstance(ring, NativeRing) and ring.few is None
    assert (ring.two.backend if ring.two else None) == (name if name == "ifma4" else None)


@NATIVE_OF_BOTH
@pytest.mark.parametrize("quiet", [1, 9, 25])
@pytest.mark.parametrize(
    ("of_four", "of_eight", "faster"), [(5, 9, True), (8, 8, False), (19, 20, False), (9, 5, False)]
)
def test_four_lanes_are_taken_if_they_take_clearly_less_time(
    of_four: int, of_eight: int, faster: bool, quiet: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of a call by its shape; only one call in `quiet` is not disturbed."""
    now, calls, multiply = 0.0, 0, Groups.multiply

    def timed(ring: Groups, out: Limbs, a: Limbs, b: Limbs) -> Limbs:
        nonlocal now, calls
        calls += 1
        now += {4: of_four, 8: of_eight}[ring.lanes] + 100 * (calls % quiet != 0)
        return multiply(ring, out, a, b)

    monkeypatch.setattr(Groups, "multiply", timed)
    monkeypatch.setattr(native_ring.time, "thread_time", lambda: now)
    assert native_ring.few_are_faster.__wrapped__("ifma", "ifma4", 512) == faster


def test_without_a_kernel_the_reference_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_kernel", None)
    ring = make_ring(Integer(35))
    assert isinstance(ring, ReferenceRing)
    assert ring.powers_secret([Integer(2)], Integer(5)) == [32]
    assert BACKENDS and "gmpy2" not in BACKENDS
