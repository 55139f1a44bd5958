"""Which backend runs: the best, or the one that VEILMATCH_BACKEND names, or a clear refusal."""

from __future__ import annotations

import pytest

from tests.kernel.numbers import BACKENDS, MODULI
from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.rings import choice
from veilmatch.crypto.rings.choice import make_ring
from veilmatch.crypto.rings.native import NativeRing
from veilmatch.crypto.rings.reference import ReferenceRing


class KernelOf:
    """A kernel on a processor that runs these backends."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def backends(self) -> list[tuple[str, int, int]]:
        return [(name, 4, 28) for name in self._names]


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
        (KernelOf("avx2"), "avx2", "fastest"),
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
    assert (caught.value.expected, caught.value.got) == ("ifma or avx2 or gmpy2", wish[:40])


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


def test_without_a_kernel_the_reference_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_kernel", None)
    ring = make_ring(Integer(35))
    assert isinstance(ring, ReferenceRing)
    assert ring.powers_secret([Integer(2)], Integer(5)) == [32]
    assert BACKENDS and "gmpy2" not in BACKENDS
