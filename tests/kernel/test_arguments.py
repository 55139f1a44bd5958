"""No argument makes the kernel touch other memory: what does not fit is a ValueError, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.kernel.numbers import MODULI, ring_of
from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.native.limbs import Limbs, empty, empty_bytes
from veilmatch.crypto.rings.native.ring import NativeRing

ENTRIES = 16
SIZE = 128


class Arguments:
    """Sound arguments of every function, for two groups."""

    def __init__(self, ring: NativeRing) -> None:
        self.ring, self.words = ring, ring._ring
        self.two, self.three = self._groups(2), self._groups(3)
        self.one = self._groups(1)
        self.rows = ring.compress(self.two)
        self.data = bytes(2 * ring.lanes * SIZE)
        self.steps = np.array([(2, 0, 1), (2, 2, 2)], dtype=np.int32)
        self.table = empty((3, 2, ring._limbs, ENTRIES))
        self.table[...] = 1
        self.digits = empty((3, 2, ring.lanes))
        self.digits[...] = ENTRIES - 1

    def _groups(self, count: int) -> Limbs:
        return self.ring.enter([Integer(5)] * (count * self.ring.lanes))

    def of(self, function: str) -> dict[str, Any]:
        """Its arguments by name, in their order."""
        arrays: dict[str, dict[str, Any]] = {
            "multiply": {"out": self._groups(2), "a": self.two, "b": self.two},
            "square": {"out": self._groups(2), "a": self.two},
            "power": {"out": self._groups(2), "a": self.two, "each": False, "exponents": b"\x07"},
            "enter": {"out": self._groups(2), "factors": self.two, "size": SIZE, "data": self.data},
            "leave": {"data": bytearray(self.data), "size": SIZE, "a": self.two},
            "compress": {"rows": self.rows.copy(), "a": self.two},
            "expand": {"out": self._groups(2), "rows": self.rows},
            "run": {
                "out": self._groups(1),
                "bases": self.rows,
                "row_lanes": self.ring.lanes,
                "lane": 0,
                "steps": self.steps,
            },
            "select_and_multiply": {
                "out": self._groups(2),
                "table": self.table,
                "rows": 3,
                "entries": ENTRIES,
                "digits": self.digits,
            },
        }
        return {"backend": self.ring.backend, "ring": self.words} | arrays[function]


FUNCTIONS = ("multiply", "square", "power", "enter", "leave", "compress", "expand", "run", "select_and_multiply")
#: The arguments of these names are arrays of groups, which must be aligned.
GROUPS = ("out", "a", "b", "factors", "table", "digits")


@pytest.fixture
def arguments(backend: str) -> Arguments:
    return Arguments(ring_of(backend, MODULI["random"](512)))


def call(function: str, given: dict[str, Any]) -> None:
    getattr(_kernel, function)(*given.values())


def refuse(function: str, given: dict[str, Any], match: str | None = None) -> None:
    out = given.get("out")
    before = None if out is None else np.array(out)
    with pytest.raises(ValueError, match=match):
        call(function, given)
    assert before is None or (before == out).all(), "it wrote before it refused"


def moved(array: Limbs, by: int) -> Limbs:
    """The same array at an address so many bytes further than an aligned one."""
    memory = empty_bytes(array.nbytes + 64)[by : by + array.nbytes]
    memory[...] = array.reshape(-1).view(np.uint8)
    return memory.view(array.dtype).reshape(array.shape) if by % 8 == 0 else memory  # type: ignore[return-value]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_sound_arguments_are_taken(arguments: Arguments, function: str) -> None:
    call(function, arguments.of(function))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", ["", "AVX2", "gmpy2", "avx2x", "ifma\N{SNOWMAN}", "x" * 10_000])
def test_an_unknown_backend_is_refused(arguments: Arguments, function: str, name: str) -> None:
    refuse(function, arguments.of(function) | {"backend": name}, "is not available")


RINGS: dict[str, Callable[[Limbs], Any]] = {
    "empty": lambda words: words[:0],
    "one word": lambda words: words[:1],
    "a limb short": lambda words: words[:-3],  # not in tiles, or not that of the arrays
    "a word short": lambda words: words[:-1],
    "a word long": lambda words: np.append(words, words[:1]),
    "not whole words": lambda words: words.tobytes()[:-3],
    "limbs not in tiles": lambda words: np.ones(3 * 15 + 1, dtype=np.uint64),  # of lanes
    "too large": lambda words: np.ones(3 * 130 + 1, dtype=np.uint64),
    "much too large": lambda words: np.ones(3 * 100_000 + 1, dtype=np.uint64),
    "misaligned": lambda words: moved(words, 4),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", RINGS)
def test_a_ring_of_the_wrong_size_is_refused(arguments: Arguments, function: str, kind: str) -> None:
    is_of_any_limbs = kind in ("a limb short", "limbs not in tiles") and arguments.ring.lanes == 1
    expected = None if is_of_any_limbs else "a ring of"  # the arrays do not fit it
    refuse(function, arguments.of(function) | {"ring": RINGS[kind](arguments.words)}, expected)


def test_a_modulus_that_is_too_large_is_refused(backend: str) -> None:
    bits = 121 * ring_of(backend, 3)._limb_bits
    with pytest.raises(ValueError, match="a ring of"):
        ring_of(backend, (1 << bits) - 1).powers_secret([Integer(3)], Integer(5))


def arrays_of(function: str) -> list[str]:
    return {
        "multiply": ["out", "a", "b"],
        "square": ["out", "a"],
        "power": ["out", "a"],
        "enter": ["out", "factors"],
        "leave": ["a"],
        "compress": ["rows", "a"],
        "expand": ["out", "rows"],
        "run": ["out", "bases", "steps"],
        "select_and_multiply": ["out", "table", "digits"],
    }[function]


@pytest.mark.parametrize(("function", "name"), [(f, name) for f in FUNCTIONS for name in arrays_of(f)])
def test_an_array_of_the_wrong_size_is_refused(arguments: Arguments, function: str, name: str) -> None:
    given = arguments.of(function)
    data = given[name].tobytes()
    lane = 8
    for wrong in (data[:-1], data[:-lane], data + bytes(1), data + bytes(lane)):
        copy = empty_bytes(len(wrong))
        copy[...] = np.frombuffer(wrong, dtype=np.uint8)
        refuse(function, given | {name: copy})


@pytest.mark.parametrize(
    ("function", "name"), [(f, name) for f in FUNCTIONS for name in arrays_of(f) if name in GROUPS]
)
def test_another_number_of_groups_is_refused(arguments: Arguments, function: str, name: str) -> None:
    given = arguments.of(function)
    one, three = np.array(arguments.one), arguments.three
    for other in (three, empty((0,)), one):
        taken = 1 if (function, name) in (("multiply", "b"), ("run", "out")) else 2  # one factor may be for all
        if len(other) != taken:
            refuse(function, given | {name: aligned(other)})


def aligned(array: Limbs) -> Limbs:
    copy = empty(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize(
    ("function", "name"), [(f, name) for f in FUNCTIONS for name in arrays_of(f) if name in GROUPS]
)
@pytest.mark.parametrize("by", [1, 4, 8, 32])
def test_a_misaligned_array_is_refused(arguments: Arguments, function: str, name: str, by: int) -> None:
    """Vectors are aligned to 64 bytes, words of one lane to 8."""
    given = arguments.of(function)
    moved_array = given | {name: moved(given[name], by)}
    if arguments.ring.lanes == 1 and by % 8 == 0:
        call(function, moved_array)
    else:
        refuse(function, moved_array)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_output_that_cannot_be_written_is_refused(arguments: Arguments, function: str) -> None:
    given = arguments.of(function)
    name = {"compress": "rows", "leave": "data"}.get(function, "out")
    if function == "leave":
        given[name] = bytes(given[name])
    else:
        given[name].flags.writeable = False
    with pytest.raises((ValueError, TypeError, BufferError)):
        call(function, given)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_other_types_and_numbers_of_arguments_are_type_errors(arguments: Arguments, function: str) -> None:
    given = list(arguments.of(function).values())
    for wrong in (given[:-1], [*given, b""], [], [None, *given[1:]], [*given[:-1], 3], [*given[:-1], None]):
        with pytest.raises(TypeError):
            getattr(_kernel, function)(*wrong)


def test_an_array_with_gaps_is_refused(arguments: Arguments) -> None:
    given = arguments.of("square")
    with pytest.raises((ValueError, BufferError)):
        call("square", given | {"a": arguments.three[::2]})


PROGRAMS: dict[str, list[tuple[int, int, int]]] = {
    "empty": [],
    "writes a base": [(1, 0, 1)],
    "writes a negative number": [(-1, 0, 1)],
    "writes beyond its scratch numbers": [(5, 0, 1)],
    "writes far beyond": [(2**31 - 1, 0, 1)],
    "reads a negative number": [(2, -1, 0)],
    "reads the most negative number": [(2, 0, -(2**31))],
    "reads beyond its numbers": [(2, 0, 5)],
    "reads far beyond": [(2, 2**31 - 1, 0)],
    "reads what it makes": [(2, 2, 0)],
    "reads what was not made": [(2, 0, 1), (2, 3, 0)],
    "reads what is made later": [(2, 0, 1), (3, 4, 0), (4, 0, 0)],
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_that_is_not_valid_is_refused(arguments: Arguments, kind: str) -> None:
    steps = np.array(PROGRAMS[kind], dtype=np.int32).reshape(-1, 3)
    refuse("run", arguments.of("run") | {"steps": steps}, "program")


@pytest.mark.parametrize("steps", [[(4, 0, 1)], [(2, 0, 0), (5, 2, 1)]])
def test_scratch_numbers_may_have_gaps(arguments: Arguments, steps: list[tuple[int, int, int]]) -> None:
    """As many numbers as there are bases and steps: the highest is the last that is valid."""
    call("run", arguments.of("run") | {"steps": np.array(steps, dtype=np.int32)})


def test_a_program_without_bases_is_refused(arguments: Arguments) -> None:
    nothing = arguments.ring.compress(empty(arguments.ring.group_shape(0)))
    refuse("run", arguments.of("run") | {"bases": nothing, "steps": np.array([(0, 0, 0)], dtype=np.int32)}, "program")


def test_a_misaligned_program_is_refused(arguments: Arguments) -> None:
    refuse("run", arguments.of("run") | {"steps": moved(arguments.steps, 2)}, "int32 triples")


@pytest.mark.parametrize(
    "wrong",
    [
        {"lane": 1},
        {"lane": 4, "row_lanes": 4},
        {"lane": 8},
        {"lane": 2**32 - 4},
        {"row_lanes": 0},
        {"row_lanes": 2},
        {"row_lanes": 12},
        {"row_lanes": 16},
        {"row_lanes": 2**32 - 8},
    ],
    ids=str,
)
def test_lanes_that_rows_do_not_have_are_refused(arguments: Arguments, wrong: dict[str, int]) -> None:
    refuse("run", arguments.of("run") | wrong, "lanes from lane")


@pytest.mark.parametrize("function", ["enter", "leave"])
@pytest.mark.parametrize(
    "change", ["0", "-1", "+1", "*2", "2**32 - 1", "a byte short", "a number short", "a group long"]
)
def test_numbers_that_are_not_those_of_the_groups_are_refused(arguments: Arguments, function: str, change: str) -> None:
    given, lanes = arguments.of(function), arguments.ring.lanes
    sizes = {"0": 0, "-1": SIZE - 1, "+1": SIZE + 1, "*2": 2 * SIZE, "2**32 - 1": 2**32 - 1}
    lengths = {"a byte short": -1, "a number short": -SIZE * lanes, "a group long": SIZE * lanes}
    data = bytearray(len(arguments.data) + lengths.get(change, 0))
    refuse(function, given | {"data": data, "size": sizes.get(change, SIZE)})


@pytest.mark.parametrize("function", ["enter", "leave"])
def test_numbers_longer_than_a_group_has_digits_for_are_refused(arguments: Arguments, function: str) -> None:
    size = 2 * arguments.ring._limbs * arguments.ring._limb_bits // 8
    for longer in (0, 1):
        given = arguments.of(function) | {"size": size + longer}
        given["data"] = bytearray(2 * arguments.ring.lanes * given["size"])
        if longer:
            refuse(function, given, "not numbers of")
        else:
            call(function, given)


def test_rows_of_another_width_are_refused(arguments: Arguments) -> None:
    """Two groups are one of twice the width, or none and a half."""
    given = arguments.of("run") | {"row_lanes": 8}
    if arguments.ring.lanes == 1:
        refuse("run", given, "lanes from lane")
    elif arguments.ring.lanes == 8:
        given["bases"] = arguments.ring.compress(arguments.one)[: -arguments.ring._limbs * arguments.ring._limb_bits]
        refuse("run", given, "rows of")
    else:
        refuse("run", given | {"bases": arguments.ring.compress(arguments.three)}, "rows of")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 0},
        {"rows": 2},
        {"rows": 4},
        {"rows": 2**32 - 1},
        {"entries": 0},
        {"entries": 2},
        {"entries": ENTRIES // 2},
        {"entries": 2 * ENTRIES},
        {"entries": 128},
        {"entries": 2**32 - 8},
        {"rows": 6, "entries": ENTRIES // 2},  # the table is as large, the digits are not
    ],
    ids=str,
)
def test_a_table_of_another_shape_is_refused(arguments: Arguments, wrong: dict[str, int]) -> None:
    refuse("select_and_multiply", arguments.of("select_and_multiply") | wrong, "a table of")


def test_more_entries_than_the_kernel_holds_are_refused(arguments: Arguments) -> None:
    given = arguments.of("select_and_multiply")
    table = empty((3, 2, arguments.ring._limbs, 72))
    refuse("select_and_multiply", given | {"table": table, "entries": 72}, "a table of")


@pytest.mark.parametrize("digit", [ENTRIES, 2**32, 2**64 - 1])
def test_a_digit_beyond_the_entries_reads_nothing_else(arguments: Arguments, digit: int) -> None:
    """Digits are secret, so that they cannot be checked; one that is too large names some entry of the row."""
    given = arguments.of("select_and_multiply")
    given["digits"][...] = digit
    call("select_and_multiply", given)


def test_backends_are_named_with_their_sizes() -> None:
    sizes = {"ifma": (8, 52), "ifma4": (4, 52), "avx2": (4, 28), "portable": (1, 64)}
    assert all(sizes[name] == (lanes, bits) for name, lanes, bits in _kernel.backends())


@pytest.mark.parametrize("rounds", [0, 1, 1000])
def test_saturating_counts_its_multiplications(backend: str, rounds: int) -> None:
    assert _kernel.saturate(backend, rounds) == rounds * _kernel.saturate(backend, 1)


def test_only_a_backend_that_runs_can_be_saturated() -> None:
    with pytest.raises(ValueError, match="is not available"):
        _kernel.saturate("gmpy2", 1)
    with pytest.raises(TypeError):
        _kernel.saturate("avx2", "1")  # type: ignore[arg-type]
