"""Whatever bytes reach a decoder, they end in a value that encodes to them again or in a typed error."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.decoders import DECODERS
from tests.fuzz.mangling import mangled

#: Slow enough for a busy machine, fast enough to see a decoder that hangs.
DEADLINE_MS = 5000
#: One primality test each.
EXPENSIVE = ("public file",)


@pytest.mark.parametrize("name", DECODERS)
def test_valid_inputs_pass(name: str) -> None:
    decoder = DECODERS[name]
    assert len(set(decoder.seeds())) > 1
    for data in decoder.seeds():
        decoder.check(data)


@pytest.mark.parametrize("name", DECODERS)
def test_nothing_but_values_and_typed_errors_come_out(name: str) -> None:
    decoder = DECODERS[name]

    @settings(
        max_examples=150 if name in EXPENSIVE else 500, deadline=DEADLINE_MS, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        decoder.check(data.draw(mangled(decoder.seeds())))

    run()
