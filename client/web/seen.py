"""What each party saw of a request, with the bytes of that very request: what the page draws below an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from veilmatch.client.web import pictures
from veilmatch.crypto.keys.parties import PARTIES, Pair, dealer_of
from veilmatch.protos.v1.request_pb2 import SignedRequest


class View(TypedDict, total=False):
    """What one party saw. words: for a person. picture: a data URL. alt: the picture in words."""

    party: str
    words: str
    picture: str
    alt: str


def of_request(request: SignedRequest, pair: Pair, what: str) -> list[View]:
    """Return what servers saw of a request. what: what they read beside the ciphertexts, as the end of a sentence."""
    ciphertexts = b"".join(request.ciphertexts)
    plus, minus, dealer = (party.upper() for party in (*pair, dealer_of(pair)))
    words = f"who asked, {what}, and {len(request.ciphertexts)} ciphertexts of {len(ciphertexts):,} bytes in all"
    return [
        {
            "party": f"matchers {plus} and {minus}",
            "words": words,
            "picture": pictures.noise(ciphertexts),
            "alt": "the ciphertexts as a picture: grey noise",
        },
        {"party": f"organisation {dealer}", "words": "nothing: it dealt random numbers before anybody asked"},
    ]


def of_answer(request: SignedRequest, pair: Pair, what: str, shares: Sequence[bytes], count: int) -> list[View]:
    """Return what every party saw of a query: `of_request`, the two shares and their XOR. count: bits that count."""
    both = [pictures.bits(share, count) for share in shares]
    opened = [x ^ y for x, y in zip(*both, strict=True)]
    views = of_request(request, pair, what)
    for party, share in zip((party for party in PARTIES if party in pair), both, strict=True):
        views.append(
            {
                "party": f"key holder {party.upper()}",
                "words": f"its share of the answer, {_bits(len(share))}: fair coins",
                "picture": pictures.strip(share),
                "alt": _in_words(share),
            }
        )
    views.append(
        {
            "party": "this device",
            "words": f"both shares: their XOR is the answer, {_bits(len(opened))}",
            "picture": pictures.strip(opened),
            "alt": _in_words(opened),
        }
    )
    return views


def _in_words(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{_bits(len(values))}, {sum(values)} of them 1"


def _bits(count: int) -> str:
    return "1 bit" if count == 1 else f"{count} bits"
