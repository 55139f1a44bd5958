"""What the attacks have in common: what was opened, what was converted, and what o is good for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gmpy2
import numpy as np
import pytest

from tests.simulator import MINUS, PLUS, Keys, PairSimulator
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.pair import converting, records
from veilmatch.crypto.pair.conversion import output_share
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.mask import SEED_BYTES, SessionMask
from veilmatch.crypto.pair.messages import LastMask, Openings


def opened(simulator: PairSimulator) -> bool:
    """Whether any opening left a holder in the last run."""
    return any(isinstance(envelope.message, Openings) for _, envelope in simulator.sent)


def openings(simulator: PairSimulator, holder: int) -> list[tuple[Integer, Integer]]:
    """(d, e) of every conversion that one holder sent in the last run."""
    size = simulator.keys.scheme.parameters.modulus_bits // 8
    data = b"".join(e.message.values for h, e in simulator.sent if h == holder and isinstance(e.message, Openings))
    parts = [Integer(int.from_bytes(data[i : i + size], "big")) for i in range(0, len(data), size)]
    return list(zip(parts[0::2], parts[1::2], strict=True))


def both_openings(simulator: PairSimulator) -> list[tuple[Integer, Integer]]:
    """What is opened to both: the differences d and e mod N."""
    N = simulator.keys.scheme.modulus
    sent = zip(openings(simulator, PLUS), openings(simulator, MINUS), strict=True)
    return [((d - d_) % N, (e - e_) % N) for (d, e), (d_, e_) in sent]


class Converted:
    """Collects the w of both holders while the sessions run, before they are masked, which no party sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plus: list[Integer] = []
        self.minus: list[Integer] = []

        def noting(*arguments: object, is_plus: bool) -> Integer:
            w = output_share(*arguments, is_plus=is_plus)  # type: ignore[arg-type]
            (self.plus if is_plus else self.minus).append(w)
            return w

        monkeypatch.setattr(converting, "output_share", noting)

    def values(self, keys: Keys) -> list[Integer]:
        """w_plus - w_minus mod N of every conversion, in order."""
        return [(x - y) % keys.scheme.modulus for x, y in zip(self.plus, self.minus, strict=True)]


def secrets_of(keys: Keys) -> tuple[Integer, Integer]:
    """o and kappa, which nobody has."""
    o = keys.exponents[PLUS] - keys.exponents[MINUS]
    return o, gmpy2.invert(o, keys.scheme.modulus)


def decrypt_with(multiple_of_o: Integer, c: Integer, N: Integer) -> Integer | None:
    """The plaintext of c for whoever has any multiple of o; None if it is not one."""
    x = gmpy2.powmod(c, multiple_of_o, N * N)
    if x % N != 1 or gmpy2.gcd(multiple_of_o, N) != 1:
        return None
    return (x - 1) // N * gmpy2.invert(multiple_of_o, N) % N  # type: ignore[no-any-return]


def take_key_safety_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions without the key-safety check: what a holder opens is believed."""

    def nothing(converter: converting.Converter, beside: object = None) -> Steps[None]:
        if not converter._their_coins:
            yield from converter._receive_coins()

    monkeypatch.setattr(converting.Converter, "check_key_safety", nothing)


def take_session_mask_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions whose mask is zero: what leaves is masked with the last mask alone, and bits with nothing."""
    monkeypatch.setattr(SessionMask, "residues", lambda _, count, modulus: [Integer(0)] * count)
    monkeypatch.setattr(SessionMask, "words", lambda _, count: np.zeros(count, dtype=np.uint64))
    monkeypatch.setattr(SessionMask, "bits", lambda _, count: np.zeros(count, dtype=np.uint8))


def take_last_mask_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions whose last masks are zero: what leaves is masked with the mask of the session alone."""
    monkeypatch.setattr(converting, "last_masked", lambda shares, seed, modulus: list(shares))
    monkeypatch.setattr(records, "last_masked_words", lambda words, seed: words)


def take_mask_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions without either mask: what leaves is as it was computed."""
    take_session_mask_out(monkeypatch)
    take_last_mask_out(monkeypatch)


#: Without the last mask: the seed that both know from the start, and what the minus holder says about it.
KNOWN_SEED, SAFE, AT_RISK = bytes(SEED_BYTES), bytes(SEED_BYTES), bytes([1]) * SEED_BYTES


def tell_risk_under_a_known_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions whose last masks are known from the start: the minus holder says if it is at risk, and no more."""

    def said(exchange: Exchange, is_safe: Callable[[bytes], bool]) -> Steps[bytes]:
        if exchange.is_plus:
            yield from exchange.receive(LastMask)
        else:
            yield from exchange.send(LastMask(SAFE if is_safe(KNOWN_SEED) else AT_RISK))
        return KNOWN_SEED

    monkeypatch.setattr(Exchange, "last_mask", said)


def plus_opens_last(exact: Callable[..., Any]) -> Callable[..., Any]:
    """Converter._exact with the order of a conversion of results, in which the minus holder opens first."""

    def opening_last(converter: converting.Converter, *arguments: Any, plus_first: bool, **others: Any) -> Any:
        return exact(converter, *arguments, plus_first=False, **others)

    return opening_last
