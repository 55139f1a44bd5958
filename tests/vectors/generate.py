"""Makes the known-answer vectors of this folder: `python tests/vectors/generate.py [--check]`.

A second implementation, written from docs/parameters.md and docs/protocol.md with Python's own integers, hashlib, and
AES and HKDF of `cryptography`. It imports nothing of Veilmatch, so a vector is not merely what the code once did.
Inputs that look random are SHAKE-256 of a label. `--check` compares with the files and changes nothing.

Every case has `expect`: "valid", or the name of the error that it ends in. Big integers and bytes are hex.
The keys of keys.json are throw-away, their factors are beside them: UNSAFE outside tests. They are the
only thing here that was drawn at random; `--new-keys` draws others (and then imports Veilmatch).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import struct
import sys
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

FOLDER = Path(__file__).parent
SUBGROUP_BITS = {512: 128, 768: 192, 1024: 320, 2048: 448, 3072: 512}
KEY_SIZES = (512, 1024, 3072)
Json = dict[str, Any]


def load(name: str) -> Json:
    """Return the content of one file of vectors."""
    return json.loads((FOLDER / f"{name}.json").read_text())  # type: ignore[no-any-return]


def draw(label: str, bits: int) -> int:
    """Return an integer of [0, 2^bits) that only the label decides."""
    size = (bits + 7) // 8
    return int.from_bytes(hashlib.shake_256(label.encode()).digest(size), "big") >> (8 * size - bits)


def draw_bytes(label: str, size: int) -> bytes:
    return hashlib.shake_256(label.encode()).digest(size)


# -- parameter sets ----------------------------------------------------------------------------


def parameter_numbers(D: int, S: int, c: int, modulus_bits: int, lane_bits: int = 48) -> Json:
    """Return all numbers that follow from D, S, c, |N| and the width of a lane, in exact arithmetic."""
    with localcontext() as context:
        context.prec = 60
        noise = Decimal(D) / 12 + 8 * (2 * S / Decimal(12).sqrt() + Decimal(D) / 24)
        honest = math.ceil(S * S + noise)
        k = next(k for k in range(2, 64) if 2 * (honest + S * S) + 1 < 2 ** (k - 1))
        M = 2 ** (k - 2) - 1 - S * S  # the largest with 2(M + S^2) + 1 < 2^(k-1)
        mean = Decimal(D * M).sqrt() / 2**k
        W = int(mean)
        while W < D and binomial_tail(D, mean / D, W) > Decimal(2) ** -40:
            W += 1
    B = next(B for B in range(k + 1, 128) if 2 * (M + 2**k * c * W) < 2 ** (B - 1))
    lanes = (modulus_bits - 65) // lane_bits
    unsafe = "" if modulus_bits in (2048, 3072) else "UNSAFE-"
    return {
        "name": f"{unsafe}d{D}-s{S}-c{c}{'' if lane_bits == 48 else f'-l{lane_bits}'}-n{modulus_bits}",
        "dimension": D, "scale": S, "clip": c, "modulus_bits": modulus_bits, "lane_bits": lane_bits,
        "k": k, "M": M, "M_lo": S * S // 2, "W": W, "B": B, "threshold_max": S * S,
        "offset": c + 1, "lane_risk": 4 * c + 4, "lanes": lanes, "lane_ciphertexts": -(-D // lanes),
        "slots": (modulus_bits - 65) // B, "ciphertext_bytes": modulus_bits // 4,
    }  # fmt: skip


def binomial_tail(n: int, p: Decimal, limit: int) -> Decimal:
    """P[Bin(n, p) > limit], from the exact first term on."""
    term = math.comb(n, limit + 1) * p ** (limit + 1) * (1 - p) ** (n - limit - 1) if limit < n else Decimal(0)
    total, i = Decimal(0), limit + 1
    while i <= n and term > total * Decimal(10) ** -50:
        total += term
        term = term * (n - i) / (i + 1) * p / (1 - p)
        i += 1
    return total


#: Numbers of an independent study of the protocol: D, S, c, k, M, W, B, identities at 2048 and at 3072 bits.
_ATTACKS_TABLE = (
    (128, 40, 7, 14, 2495, 6, 22, 90, 136), (128, 40, 15, 14, 2495, 6, 23, 86, 130),
    (128, 90, 31, 17, 24667, 5, 27, 73, 111), (128, 255, 127, 20, 197118, 4, 31, 63, 97),
    (512, 40, 7, 14, 2495, 7, 22, 90, 136), (512, 40, 15, 14, 2495, 7, 23, 86, 130),
    (512, 90, 31, 17, 24667, 5, 27, 73, 111), (512, 255, 127, 20, 197118, 4, 31, 63, 97),
)  # fmt: skip


def parameter_sets() -> Json:
    cases = []
    for D, S, c, *_ in _ATTACKS_TABLE:
        for bits in (2048, 3072):
            cases.append(parameter_numbers(D, S, c, bits) | {"source": "independent study"})
    for row, at in zip(_ATTACKS_TABLE, range(0, 2 * len(_ATTACKS_TABLE), 2), strict=True):
        small, large = cases[at], cases[at + 1]
        found = (*(small[x] for x in ("dimension", "scale", "clip", "k", "M", "W", "B", "slots")), large["slots"])
        assert found == row, f"the study says {row}, the rules give {found}"
    for lane_bits in (46, 48):
        for source, numbers in {
            "the default": (128, 126, 38, 3072), "256-d embeddings": (256, 110, 25, 3072),
            "512-d embeddings": (512, 120, 18, 3072), "coarse": (128, 60, 23, 3072),
            "coarse, 512-d": (512, 40, 15, 3072),
        }.items():  # fmt: skip
            cases.append(parameter_numbers(*numbers, lane_bits) | {"source": source})
    for numbers in (
        (128, 60, 23, 2048), (512, 40, 15, 2048), (128, 60, 23, 512), (128, 60, 23, 768), (128, 60, 23, 1024),
        (512, 40, 15, 1024), (4, 8, 3, 512), (12, 8, 3, 512), (1, 4, 1, 512), (4096, 1024, 1023, 3072),
        (4096, 4, 4, 512), (1, 1024, 1023, 512),
    ):  # fmt: skip
        cases += [parameter_numbers(*numbers, lane_bits) | {"source": "toys and extremes"} for lane_bits in (46, 48)]
    valid = [{"expect": "valid", **case} for case in cases]
    invalid = [
        {"expect": "ParameterError", "why": why, "dimension": D, "scale": S, "clip": c, "modulus_bits": bits,
         "lane_bits": lane_bits}
        for why, D, S, c, bits, lane_bits in (
            ("modulus of no known size", 128, 60, 23, 4096, 46), ("modulus of no known size", 128, 60, 23, 0, 46),
            ("dimension", 0, 60, 23, 3072, 46), ("dimension", 4097, 60, 23, 3072, 46),
            ("dimension", -1, 60, 23, 3072, 46),
            ("scale", 128, 3, 2, 3072, 46), ("scale", 128, 1025, 23, 3072, 46), ("clip", 128, 60, 0, 3072, 46),
            ("clip above scale", 128, 60, 61, 3072, 46), ("clip", 128, 1024, 1024, 3072, 46),
            ("lane of no known width", 128, 60, 23, 3072, 45), ("lane of no known width", 128, 60, 23, 3072, 47),
            ("lane of no known width", 128, 60, 23, 3072, 64),
        )
    ]  # fmt: skip
    names = [
        {"expect": "ParameterError", "name": name}
        for name in (
            "", "d128-s60-c23", "D128-s60-c23-n3072", "UNSAFE-d128-s60-c23-n3072", "d128-s60-c23-n1024",
            "d0128-s60-c23-n3072", "d128-s60-c23-n3072 ", "d128-s60-c23-n3072\n", "d128-s-60-c23-n3072",
            "d١٢٨-s60-c23-n3072", "d0-s60-c23-n3072", "d128-s60-c61-n3072", "d128-s60-c23-l48-n3072",
            "d128-s60-c23-l47-n3072", "d128-s60-c23-n3072-l46", "d128-s60-c23-l-n3072", "d128-s60-c23-l046-n3072",
        )
    ]  # fmt: skip
    return {"sets": valid + invalid, "names": names}


# -- keys ---------------------------------------------------------------------------------------


class Key:
    """One throw-away key of keys.json, with everything that a real ceremony destroys."""

    def __init__(self, modulus_bits: int) -> None:
        fields = next(k for k in load("keys")["keys"] if k["modulus_bits"] == modulus_bits)
        self.modulus_bits = modulus_bits
        self.P, self.Q, self.p, self.q, self.y = (int(fields[x], 16) for x in ("P", "Q", "p", "q", "y"))
        self.N, self.square = self.P * self.Q, (self.P * self.Q) ** 2
        self.o = 2 * self.p * self.q
        cofactors = (self.P - 1) // (2 * self.p) * ((self.Q - 1) // (2 * self.q))
        self.h = -pow(self.y, 2 * cofactors, self.N) % self.N
        self.hs = pow(self.h, self.N, self.square)
        self.kappa = pow(self.o, -1, self.N)
        assert (f"{self.N:x}", f"{self.hs:x}") == (fields["N"], fields["hs"])

    @property
    def randomiser_bits(self) -> int:
        return SUBGROUP_BITS[self.modulus_bits] + 1 + 128

    def key_id(self, name: str) -> bytes:
        size = self.modulus_bits // 4
        parts = (name.encode(), self.N.to_bytes(size, "big"), self.hs.to_bytes(size, "big"))
        return hashlib.sha256(b"veilmatch public key v1\0" + b"\0".join(parts)).digest()[:16]

    def log(self, g: int) -> int:
        """floor(g/N) * (g mod N)^-1 mod N."""
        return g // self.N * pow(g % self.N, -1, self.N) % self.N

    def split(self, label: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """(o_plus, kappa_plus), (o_minus, kappa_minus) of one pair."""
        o_minus = draw(f"{label} o", self.randomiser_bits)
        kappa_minus = draw(f"{label} kappa", self.modulus_bits + 128) % self.N
        return (self.o + o_minus, (self.kappa + kappa_minus) % self.N), (o_minus, kappa_minus)


def new_keys() -> Json:
    """Draw other throw-away keys."""
    import secrets

    from veilmatch.crypto.rings.primes import special_prime

    keys = []
    for bits in KEY_SIZES:
        P, Q = (special_prime(bits // 2, SUBGROUP_BITS[bits] // 2) for _ in "PQ")
        N, y = int(P.prime * Q.prime), 2 + secrets.randbits(bits - 2)
        h = -pow(y, int(2 * P.cofactor * Q.cofactor), N) % N
        assert math.gcd(h * h - 1, N) == 1
        numbers = {"P": P.prime, "Q": Q.prime, "p": P.factor, "q": Q.factor, "y": y, "N": N, "hs": pow(h, N, N * N)}
        keys.append({"expect": "valid", "modulus_bits": bits} | {x: f"{int(v):x}" for x, v in numbers.items()})
    return {"warning": "UNSAFE: throw-away keys for tests. The factors are here for everybody to see.", "keys": keys}


# -- packing ------------------------------------------------------------------------------------


def _fields(w: int, width: int, count: int, low: int | None = None) -> list[int]:
    return [(w >> width * j) % 2 ** (width if low is None else low) for j in range(count)]


def _vector(label: str, D: int, c: int) -> list[int]:
    return [draw(f"{label} {i}", 64) % (2 * c + 1) - c for i in range(D)]


def packing() -> Json:
    cases: list[Json] = []
    for D, S, c, bits, width in (
        *((4, 8, 3, 512, width) for width in (46, 48)), *((12, 8, 3, 512, width) for width in (46, 48)),
        *((128, 60, 23, bits, width) for bits in (1024, 3072) for width in (46, 48)),
    ):  # fmt: skip
        n = parameter_numbers(D, S, c, bits, width)
        vectors = {
            "all c": [c] * D, "all -c": [-c] * D, "all zero": [0] * D, "alternating": [c * (-1) ** i for i in range(D)],
            "drawn": _vector(f"packing {n['name']}", D, c),
        }  # fmt: skip
        for what, vector in vectors.items():
            chunks = [vector[i : i + n["lanes"]] for i in range(0, D, n["lanes"])]
            plain = [sum((x + c + 1) * 2 ** (width * j) for j, x in enumerate(chunk)) for chunk in chunks]
            minus = [draw(f"packing w {n['name']} {what} {i}", bits - 66) for i in range(len(plain))]
            plus = [m + w for m, w in zip(plain, minus, strict=True)]
            lanes = {
                role: [x for w, chunk in zip(shares, chunks, strict=True) for x in _fields(w, width, len(chunk))]
                for role, shares in (("plus", plus), ("minus", minus))
            }
            mask = 2 ** n["k"]
            ring = {"plus": [(x - c - 1) % mask for x in lanes["plus"]], "minus": [x % mask for x in lanes["minus"]]}
            assert [(a - b + c) % mask - c for a, b in zip(ring["plus"], ring["minus"], strict=True)] == vector
            cases.append({
                "expect": "valid", "kind": "lanes", "parameter_set": n["name"], "what": what, "vector": vector,
                "plaintexts": _hex(plain), "w_plus": _hex(plus), "w_minus": _hex(minus), "lanes": lanes, "ring": ring,
            })  # fmt: skip
        for what, vector in vectors.items():
            minus = [draw(f"packing words {n['name']} {what} {i}", 64) for i in range(D)]
            minus[: 2 if D > 2 else 0] = 0, 2**64 - n["lane_risk"] - 1
            minus = [min(x, 2**64 - n["lane_risk"] - 1) for x in minus]
            plus = [q + x + c + 1 for q, x in zip(minus, vector, strict=True)]
            slot = n["slots"] - 1
            columns = {
                "plus": [2 * (p - c - 1) * 2 ** (n["B"] * slot) for p in plus],
                "minus": [-2 * q * 2 ** (n["B"] * slot) for q in minus],
            }
            parts = {
                role: [
                    sign * sum(x * 2 ** (width * j) for j, x in enumerate(words[i : i + n["lanes"]]))
                    for i in range(0, D, n["lanes"])
                ]
                for role, sign, words in (("plus", 1, plus), ("minus", -1, minus))
            }
            assert [a + b for a, b in zip(*columns.values(), strict=True)] == [2 * x << n["B"] * slot for x in vector]
            cases.append({
                "expect": "valid", "kind": "words", "parameter_set": n["name"], "what": what, "vector": vector,
                "slot": slot, "words": {"plus": _hex(plus), "minus": _hex(minus)},
                "record": {role: _hex(x) for role, x in parts.items()},
                "columns_sha256": {role: _sha256(x) for role, x in columns.items()},
                "erasing_sha256": {role: _sha256([-v for v in x]) for role, x in columns.items()},
            })  # fmt: skip
        for what, count in (("one template", 1), ("full pack", n["slots"])) if D < 128 else (("two templates", 2),):
            templates = [_vector(f"slots {n['name']} {j}", D, c) for j in range(count)]
            plain = [sum(2 * t[i] * 2 ** (n["B"] * j) for j, t in enumerate(templates)) for i in range(D)]
            w = [draw(f"slots w {n['name']} {what} {i}", bits - 65) for i in range(2)]
            cases.append({
                "expect": "valid", "kind": "slots", "parameter_set": n["name"], "what": what, "templates": templates,
                "plaintexts_sha256": _sha256(plain), "first_plaintext": _hex(plain[:1])[0], "w": _hex(w),
                "slots": [_fields(x, n["B"], n["slots"], n["k"]) for x in w],
                "half": f"{sum(2 ** (n['B'] - 1 + n['B'] * j) for j in range(n['slots'])):x}",
            })  # fmt: skip
        cases.append({
            "expect": "ParameterError", "kind": "slots", "parameter_set": n["name"], "what": "one template too many",
            "shape": [n["slots"] + 1, D],
        })  # fmt: skip
        cases.append({
            "expect": "ParameterError", "kind": "slots", "parameter_set": n["name"], "what": "a coordinate too many",
            "shape": [1, D + 1],
        })  # fmt: skip
    return {"cases": cases}


def _hex(values: list[int]) -> list[str]:
    return [f"{v:x}" if v >= 0 else f"-{-v:x}" for v in values]


def _sha256(values: list[int]) -> str:
    return hashlib.sha256("\n".join(_hex(values)).encode()).hexdigest()


# -- encryption and conversion --------------------------------------------------------------------


def encryption() -> Json:
    """The digits are what the randomiser is made of: r = sum (digit + 1) * 256^i."""
    cases: list[Json] = []
    for bits in (512, 1024):
        key, size = Key(bits), bits // 4
        rows = -(-key.randomiser_bits // 8)
        for what, m in (
            ("0", 0), ("1", 1), ("N-1", key.N - 1), ("half of N", key.N // 2), ("-1", -1),
            ("drawn", draw("encryption m", bits + 64) % key.N),
        ):  # fmt: skip
            for digits in (bytes(rows), b"\xff" * rows, draw_bytes(f"encryption {bits} {what}", rows)):
                r = sum((digit + 1) * 256**i for i, digit in enumerate(digits))
                c = (1 + m % key.N * key.N) * pow(key.hs, r, key.square) % key.square
                cases.append({
                    "expect": "valid", "kind": "encrypt", "modulus_bits": bits, "what": what, "m": _hex([m])[0],
                    "digits": digits.hex(), "ciphertext": c.to_bytes(size, "big").hex(),
                })  # fmt: skip
        one = 1 + key.N
        for what, data in (
            ("zero", bytes(size)), ("N^2", key.square.to_bytes(size, "big")), ("all ones", b"\xff" * size),
            ("N", key.N.to_bytes(size, "big")), ("a multiple of P", (5 * key.P).to_bytes(size, "big")),
            ("a multiple of Q", (key.Q * key.N).to_bytes(size, "big")), ("empty", b""),
            ("a byte short", one.to_bytes(size - 1, "big")), ("a byte long", one.to_bytes(size + 1, "big")),
        ):  # fmt: skip
            cases.append({
                "expect": "CiphertextError", "kind": "parse", "modulus_bits": bits, "what": what,
                "ciphertext": data.hex(),
            })  # fmt: skip
        for what, c in (("1, no randomness", 1), ("N^2 - 1", key.square - 1)):
            cases.append({
                "expect": "valid", "kind": "parse", "modulus_bits": bits, "what": what,
                "ciphertext": c.to_bytes(size, "big").hex(),
            })  # fmt: skip
    return {"cases": cases}


def conversion() -> Json:
    """Fixed shares, fixed triples. expect CiphertextError: the fingerprints of the two holders differ."""
    cases: list[Json] = []
    for bits in (512, 1024):
        key = Key(bits)
        N, top = key.N, 1 << (key.randomiser_bits + 16)
        (o_plus, kappa_plus), (o_minus, kappa_minus) = key.split(f"conversion {bits}")
        good = 1
        bad = pow(draw("outside the subgroup", bits + 64) % N, N, key.square)
        for what, m, factor in (
            ("m = 0", 0, good), ("m = 1", 1, good), ("m = N-1", N - 1, good), ("m = half of N", N // 2, good),
            ("m drawn", draw("conversion m", bits + 64) % N, good), ("-c", 5, -1), ("malformed", 5, bad),
        ):  # fmt: skip
            r = draw(f"conversion r {what}", key.randomiser_bits)
            c = (1 + m * N) * pow(key.hs, r, key.square) * factor % key.square
            g = [pow(c, top + x, key.square) for x in (o_plus, o_minus)]
            z = [key.log(x) for x in g]
            minus = [draw(f"triple {what} {i}", bits + 64) % N for i in range(3)]
            a, b = (draw(f"product {what} {i}", bits + 64) % N for i in range(2))
            plus = [(a + minus[0]) % N, (b + minus[1]) % N, (a * b + minus[2]) % N]
            opened = [
                ((z[i] - t[0]) % N, (kappa - t[1]) % N)
                for i, t, kappa in ((0, plus, kappa_plus), (1, minus, kappa_minus))
            ]
            d, e = opened[0][0] - opened[1][0], opened[0][1] - opened[1][1]
            w = [(plus[2] + d * plus[1] + e * plus[0] + d * e) % N, (minus[2] + d * minus[1] + e * minus[0]) % N]
            assert what == "malformed" or (w[0] - w[1]) % N == m
            session_id = draw_bytes("conversion session", 32)
            hashes_ = [
                hashlib.sha256(
                    b"veilmatch fingerprint v1\0" + role + b"\0" + session_id + bytes(4)
                    + (x % N).to_bytes(bits // 8, "big")
                ).hexdigest()
                for role, x in ((b"plus", g[0]), (b"minus", g[1]))
            ]  # fmt: skip
            cases.append({
                "expect": "CiphertextError" if what == "malformed" else "valid", "modulus_bits": bits, "what": what,
                "ciphertext": f"{c:x}", "m": f"{m:x}", "session_id": session_id.hex(),
                "plus": {"o": f"{o_plus:x}", "kappa": f"{kappa_plus:x}", "triple": _hex(plus), "z": f"{z[0]:x}",
                         "opening": _hex(list(opened[0])), "w": f"{w[0]:x}", "fingerprint_hash": hashes_[0]},
                "minus": {"o": f"{o_minus:x}", "kappa": f"{kappa_minus:x}", "triple": _hex(minus), "z": f"{z[1]:x}",
                          "opening": _hex(list(opened[1])), "w": f"{w[1]:x}", "fingerprint_hash": hashes_[1]},
            })  # fmt: skip
    return {"cases": cases}


# -- digests and dealing --------------------------------------------------------------------------


def digest(label: str, *parts: bytes | int | str) -> bytes:
    """SHA-256 of the label and the parts, each behind its length in 8 bytes."""
    raw = [b"veilmatch v1 " + label.encode()]
    raw += [p.to_bytes(8, "big") if isinstance(p, int) else p.encode() if isinstance(p, str) else p for p in parts]
    return hashlib.sha256(b"".join(len(p).to_bytes(8, "big") + p for p in raw)).digest()


def digest_all(label: str, items: list[bytes]) -> bytes:
    raw = [b"veilmatch v1 " + label.encode(), *items]
    joined = b"".join(len(p).to_bytes(8, "big") + p for p in raw)
    return hashlib.sha256(joined + len(items).to_bytes(8, "big")).digest()


def _keystream(seed: bytes, length: int) -> bytes:
    return Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor().update(bytes(length))


def dealing() -> Json:
    cases: list[Json] = []
    key, seed = Key(512), draw_bytes("dealing seed", 32)
    for pair, stock, epoch, kind, number in (
        ("ab", "first stock", 1, "triples", 0), ("ab", "first stock", 1, "bits", 0),
        ("ac", "first stock", 1, "triples", 0), ("ab", "second stock", 1, "triples", 0),
        ("ab", "first stock", 2, "triples", 0), ("ab", "first stock", 1, "triples", 1),
        ("bc", "second stock", 65536, "bits", 2**40), ("ab", "first stock", 1, "products", 0),
    ):  # fmt: skip
        name = {"pair": pair, "stock": draw_bytes(stock, 32).hex(), "epoch": epoch, "kind": kind, "number": number}
        label = ("dealt block", pair, draw_bytes(stock, 32), epoch, kind, number)
        seeds = [HKDFExpand(hashes.SHA256(), 32, digest(*label, role)).derive(seed) for role in ("plus", "minus")]
        units: list[Json] = []
        if kind == "bits":
            count = 4 * (1 << 17) + 32
            plus, minus = (
                [s[i * count : (i + 1) * count] for i in range(3)] for s in (_keystream(x, 3 * count) for x in seeds)
            )
            right = bytes((a ^ x) & (b ^ y) ^ z for a, b, x, y, z in zip(plus[0], plus[1], *minus, strict=True))
            corrections = right
            for at in (0, 1, 15, 16, 4095, 524319):
                units.append({"at": at, "plus": [plus[0][at], plus[1][at], right[at]], "minus": [m[at] for m in minus]})
        elif kind == "products":
            count = 4 * (1 << 14) + 4
            words = [
                [int.from_bytes(s[i : i + 8], "little") for i in range(0, 16 * count, 8)]
                for s in (_keystream(x, 16 * count) for x in seeds)
            ]
            factors, masks = [w[:count] for w in words], words[1][count:]
            sums = [(u * v + x) % 2**64 for u, v, x in zip(*factors, masks, strict=True)]
            corrections = b"".join(x.to_bytes(8, "little") for x in sums)
            for at in (0, 1, 2, 4095, 65539):
                units.append({
                    "at": at, "plus": _hex([factors[0][at], sums[at]]), "minus": _hex([factors[1][at], masks[at]]),
                })  # fmt: skip
        else:
            size, width = 64, 80  # |N|/8, and that plus 16 bytes, in whole AES blocks
            parts = [
                [int.from_bytes(s[i : i + width], "big") % key.N for i in range(0, 3 * 512 * width, width)]
                for s in (_keystream(x, 3 * 512 * width) for x in seeds)
            ]
            corrected = []
            for i in range(512):
                a, b, _ = parts[0][3 * i : 3 * i + 3]
                x, y, z = parts[1][3 * i : 3 * i + 3]
                corrected.append(((a - x) * (b - y) + z) % key.N)
            corrections = b"".join(x.to_bytes(size, "big") for x in corrected)
            for at in (0, 1, 100, 511):
                units.append({
                    "at": at, "plus": _hex([*parts[0][3 * at : 3 * at + 2], corrected[at]]),
                    "minus": _hex(parts[1][3 * at : 3 * at + 3]),
                })  # fmt: skip
        cases.append({
            "expect": "valid", "modulus_bits": 512, "dealing_seed": seed.hex(), "name": name,
            "plus_seed": seeds[0].hex(), "minus_seed": seeds[1].hex(),
            "corrections_sha256": hashlib.sha256(corrections).hexdigest(), "corrections_bytes": len(corrections),
            "units": units,
        })  # fmt: skip
    sizes = [
        {"expect": expect, "kind": kind, "is_plus": is_plus, "seed_bytes": seed_bytes, "corrections_bytes": length}
        for expect, kind, is_plus, seed_bytes, length in (
            ("valid", "triples", True, 32, 512 * 64), ("valid", "triples", False, 32, 0),
            ("valid", "bits", True, 32, 524320), ("valid", "bits", False, 32, 0),
            ("ProtocolError", "triples", True, 32, 0), ("ProtocolError", "triples", True, 32, 512 * 64 - 1),
            ("ProtocolError", "triples", False, 32, 512 * 64), ("ProtocolError", "bits", True, 32, 524321),
            ("ProtocolError", "bits", True, 31, 524320), ("ProtocolError", "bits", False, 33, 0),
            ("ProtocolError", "bits", False, 0, 0), ("valid", "products", True, 32, 524320),
            ("valid", "products", False, 32, 0), ("ProtocolError", "products", True, 32, 65540),
        )
    ]  # fmt: skip
    return {"blocks": cases, "tagged": [_tagged(key, seed)], "sizes": sizes}


def _tagged(key: Key, seed: bytes) -> Json:
    """A block of triples, behind the corrections the tags of both holders' a and b of the half that is kept, and that
    of a mask."""
    stock, size, width = draw_bytes("first stock", 32), 64, 80
    name = {"pair": "ab", "stock": stock.hex(), "epoch": 1, "kind": "triples", "number": 0}
    label = ("dealt block", "ab", stock, 1, "triples", 0)
    gammas = [draw(f"dealer gamma {i}", 128) for i in range(2)]
    seeds = [HKDFExpand(hashes.SHA256(), 32, digest(*label, role)).derive(seed) for role in ("plus", "minus")]
    parts = [
        [int.from_bytes(s[i : i + width], "big") % key.N for i in range(0, 3 * 512 * width, width)]
        for s in (_keystream(x, 3 * 512 * width) for x in seeds)
    ]
    keys = [
        [int.from_bytes(s[i : i + width], "big") % key.N for i in range(0, 513 * width, width)]
        for s in (_keystream(digest("tag keys", x), 513 * width) for x in seeds)
    ]
    masks = [int.from_bytes(_keystream(digest("tag mask", x), width), "big") % key.N for x in seeds]
    own = [
        [*(x for i in range(256) for x in part[3 * i : 3 * i + 2]), mask]
        for part, mask in zip(parts, masks, strict=True)
    ]
    case: Json = {
        "expect": "valid", "modulus_bits": 512, "dealing_seed": seed.hex(), "name": name, "gammas": _hex(gammas),
    }  # fmt: skip
    for prover, role in enumerate(("plus", "minus")):
        verifier = 1 - prover
        tags = [(k + gammas[verifier] * x) % key.N for k, x in zip(keys[verifier], own[prover], strict=True)]
        products = []
        for i in range(512 if role == "plus" else 0):
            (a, b, _), (x, y, z) = (part[3 * i : 3 * i + 3] for part in parts)
            products.append(((a - x) * (b - y) + z) % key.N)
        corrections = b"".join(x.to_bytes(size, "big") for x in products + tags)
        case[role] = {
            "corrections_bytes": len(corrections), "corrections_sha256": hashlib.sha256(corrections).hexdigest(),
            "units": [
                {"at": i, "tags": _hex(tags[2 * i : 2 * i + 2]), "keys": _hex(keys[prover][2 * i : 2 * i + 2])}
                for i in (0, 1, 100, 255)
            ],
        }  # fmt: skip
    return case


def key_safety() -> Json:
    """Three conversions, the last a repetition of the second, and the proofs of both holders. UNSAFE key."""
    bits, roles = 512, ("plus", "minus")
    key = Key(bits)
    N, half = key.N, 1 << (key.randomiser_bits + 16)
    (o_plus, kappa_plus), (o_minus, kappa_minus) = key.split("key safety")
    exponents, kappas = (half + o_plus, half + o_minus), (kappa_plus, kappa_minus)
    top = 1 << (key.randomiser_bits + 128 + 16)
    gammas = [draw(f"safety gamma {i}", 128) for i in range(2)]  # by verifier, like all of these
    t_minus = [draw(f"safety t {i}", key.randomiser_bits + 128) for i in range(2)]
    t = [[gamma * key.o + x, x] for gamma, x in zip(gammas, t_minus, strict=True)]  # and by holder
    keys = [draw(f"safety kappa key {i}", bits + 64) % N for i in range(2)]
    tags = [(keys[v] + gammas[v] * kappas[1 - v]) % N for v in range(2)]
    session_id = draw_bytes("safety session", 32)
    coins = [draw_bytes(f"safety coins {role}", 32) for role in roles]
    count = 18  # the last of three rows of eight is not full
    random = hashlib.shake_256(digest("key safety weights", session_id, *coins)).digest(8 * (8 + 2 + count))
    drawn = [int.from_bytes(random[i : i + 8], "big") for i in range(0, len(random), 8)]
    columns, rows, sigmas = drawn[:8], [1, *drawn[8:10]], drawn[10:]
    ciphertexts = []
    for i in range(count - 1):
        m, r = draw(f"safety m {i}", bits + 64) % N, draw(f"safety r {i}", key.randomiser_bits)
        ciphertexts.append((1 + m * N) * pow(key.hs, r, key.square) % key.square)
    ciphertexts.append(ciphertexts[1])
    cases, left, c_star = [], [0, 0], 1
    for number, c in enumerate(ciphertexts):
        rho, sigma = rows[number // 8] * columns[number % 8], sigmas[number]
        c_star = c_star * pow(c, rho, key.square) % key.square
        z = [key.log(pow(c, x, key.square)) for x in exponents]
        a_b = [[draw(f"safety triple {number} {i} {j}", bits + 64) % N for j in range(2)] for i in range(2)]
        ab_minus = draw(f"safety product {number}", bits + 64) % N
        ab = [((a_b[0][0] - a_b[1][0]) * (a_b[0][1] - a_b[1][1]) + ab_minus) % N, ab_minus]
        its_keys = [[draw(f"safety key {number} {i} {j}", bits + 64) % N for j in range(2)] for i in range(2)]
        its_tags = [[(its_keys[1 - q][j] + gammas[1 - q] * a_b[q][j]) % N for j in range(2)] for q in range(2)]
        case: Json = {"ciphertext": f"{c:x}", "weights": _hex([rho, sigma])}
        for q, role in enumerate(roles):
            left[q] += sigma * tags[1 - q] - rho * its_tags[q][0] - sigma * its_tags[q][1]
            case[role] = {
                "z": f"{z[q]:x}", "triple": _hex([*a_b[q], ab[q], *its_tags[q], *its_keys[q]]),
                "opening": _hex([(z[q] - a_b[q][0]) % N, (kappas[q] - a_b[q][1]) % N]),
            }  # fmt: skip
        cases.append(case)
    whole: Json = {
        "expect": "valid", "modulus_bits": bits, "session_id": session_id.hex(), "plus_coins": coins[0].hex(),
        "minus_coins": coins[1].hex(), "of": cases, "c_star": f"{c_star:x}",
    }  # fmt: skip
    for q, role in enumerate(roles):
        v = 1 - q
        proof = (left[q] + key.log(pow(c_star, top + t[v][q], key.square))) % N
        whole[role] = {
            "safety": _hex([gammas[q], t[q][q], keys[q], t[v][q], tags[v]]),
            "proof": proof.to_bytes(bits // 8, "big").hex(),
        }  # fmt: skip
    return {"cases": [whole]}


# -- the mask of a session ------------------------------------------------------------------------


def _mask_stream(session_id: bytes, secrets: list[bytes], number: int, length: int) -> bytes:
    """Draw `number` of a session: every draw is an AES-256-CTR stream of its own."""
    return _keystream(digest("session mask stream", digest("session mask", session_id, *secrets), number), length)


def _mask_words(stream: bytes) -> list[int]:
    return [int.from_bytes(stream[i : i + 8], "little") for i in range(0, len(stream), 8)]


def session_mask() -> Json:
    """What both holders draw, in this order. expect ProtocolError: a secret that is not of 32 bytes."""
    cases: list[Json] = []
    for what, session, draws in (
        (
            "an enrolment",
            "mask session 1",
            [("residues", 2), ("residues", 2), ("words", 12), ("words", 12), ("bits", 1)],
        ),
        ("a query", "mask session 2", [("residues", 3), ("residues", 1), ("bits", 256)]),
        ("odd counts", "mask session 2", [("bits", 9), ("words", 1), ("residues", 1), ("bits", 7), ("bits", 8)]),
        ("nothing", "mask session 3", [("bits", 0), ("words", 0), ("residues", 0), ("words", 3)]),
    ):
        session_id = draw_bytes(session, 32)
        secrets = [draw_bytes(f"{session} secret of {role}", 32) for role in ("plus", "minus")]
        for bits in KEY_SIZES if what == "an enrolment" else KEY_SIZES[:1]:
            N, size, streams = Key(bits).N, bits // 8 + 16, []
            for number, (kind, count) in enumerate(draws):
                length = {"residues": size * count, "words": 8 * count, "bits": (count + 7) // 8}[kind]
                stream = _mask_stream(session_id, secrets, number, length)
                values = {
                    "residues": [int.from_bytes(stream[i : i + size], "big") % N for i in range(0, length, size)],
                    "words": _mask_words(stream),
                    "bits": [stream[i // 8] >> i % 8 & 1 for i in range(count)],
                }[kind] if count else []  # fmt: skip
                streams.append({"kind": kind, "count": count, "values": _hex(values)})
            cases.append({
                "expect": "valid", "what": f"{what}, {bits} bits", "modulus_bits": bits, "session_id": session_id.hex(),
                "plus": secrets[0].hex(), "minus": secrets[1].hex(), "draws": streams,
            })  # fmt: skip
    for what, plus, minus in (("short", 31, 32), ("long", 32, 33), ("none", 0, 32), ("none", 32, 0)):
        cases.append({
            "expect": "ProtocolError", "what": f"a secret that is {what}", "session_id": bytes(32).hex(),
            "plus": bytes(plus).hex(), "minus": bytes(minus).hex(),
        })  # fmt: skip
    return {"cases": cases}


# -- last masks -----------------------------------------------------------------------------------


def last_mask() -> Json:
    """What both holders add to their shares under the seed of a last mask, of each holder; differences stay."""
    cases: list[Json] = []
    seeds = [("seed of zeros", bytes(16)), ("seed of ones", b"\xff" * 16)]
    seeds += [(f"seed {i}", draw_bytes(f"last mask seed {i}", 16)) for i in range(3)]
    for (what, seed), count in zip(seeds, (3, 2, 1, 5, 0), strict=True):
        for bits in KEY_SIZES if what == "seed of zeros" else KEY_SIZES[:1]:
            N, size = Key(bits).N, bits // 8 + 16
            stream = _keystream(digest("last mask mod N", seed), size * count)
            masks = [int.from_bytes(stream[i : i + size], "big") % N for i in range(0, len(stream), size)]
            cases.append(_last_masked(f"residues, {what}, {bits} bits", seed, masks, N) | {"modulus_bits": bits})
        masks = _mask_words(_keystream(digest("last mask of words", seed), 8 * 4 * count))
        cases.append(_last_masked(f"words, {what}", seed, masks, 2**64))
    return {"cases": cases}


def _last_masked(what: str, seed: bytes, masks: list[int], size: int) -> Json:
    """Shares of edges first: of 0 and N - 1, of one that becomes 0 and one that becomes N - 1."""
    values = [draw(f"value of last mask {what} {i}", 3200) % size for i in range(len(masks))]
    minus = [draw(f"share of last mask {what} {i}", 3200) % size for i in range(len(masks))]
    edges = [0, size - 1, *(-m % size for m in masks[2:3]), *((-m - 1) % size for m in masks[3:4])]
    minus[: len(edges)] = edges[: len(minus)]
    plus = [(x + y) % size for x, y in zip(minus, values, strict=True)]
    known = {
        role: {"shares": _hex(shares), "masked": _hex([(x + m) % size for x, m in zip(shares, masks, strict=True)])}
        for role, shares in (("plus", plus), ("minus", minus))
    }
    return {"expect": "valid", "what": what, "seed": seed.hex(), **known}


# -- products of shared numbers -------------------------------------------------------------------


def multiplication() -> Json:
    """Vectors times their valid bit, plus the offset, on shares mod 2^64: messages and shares of both holders."""
    cases: list[Json] = []
    top, roles = 1 << 64, ("plus", "minus")
    for what, D, c, valid, extreme in (
        ("one that is valid", 4, 3, [1], False), ("one that is not", 4, 3, [0], False),
        ("nine of them", 3, 38, [1, 0, 0, 1, 1, 1, 0, 1, 0], False), ("the largest lanes", 4, 38, [1, 0], True),
    ):  # fmt: skip
        n, offset = len(valid), c + 1
        lanes = [draw(f"product lane {what} {i}", 48) for i in range(n * D)]
        x = [value for i in range(n) for value in _vector(f"product vector {what} {i}", D, c)]
        if extreme:
            lanes, x = [2**48 - 4 * c - 5] * (n * D), [c, -c] * (n * D // 2)
        masks = [draw(f"product bit {what} {i}", 1) for i in range(n)]
        bits = {"plus": [v ^ b for v, b in zip(valid, masks, strict=True)], "minus": masks}
        mine = {"plus": [q + v + offset for q, v in zip(lanes, x, strict=True)], "minus": lanes}
        count = n * (1 + 2 * D)
        factors = {r: [draw(f"product factor {what} {r} {i}", 64) for i in range(count)] for r in roles}
        minus = [draw(f"product {what} {i}", 64) for i in range(count)]
        of_plus = [(u * v + z) % top for u, v, z in zip(factors["plus"], factors["minus"], minus, strict=True)]
        dealt = {"plus": of_plus, "minus": minus}

        def layer(
            known: dict[str, list[int]], at: int, factors: Json = factors, dealt: Json = dealt
        ) -> tuple[dict[str, bytes], dict[str, list[int]]]:
            """One multiplication: what each sends, and its shares of the products."""
            size = len(known["plus"])
            sent = {
                r: [(k - f) % top for k, f in zip(known[r], factors[r][at : at + size], strict=True)] for r in roles
            }
            shares = {
                "plus": [
                    (z + k * s) % top
                    for z, k, s in zip(dealt["plus"][at : at + size], known["plus"], sent["minus"], strict=True)
                ],
                "minus": [
                    (z - f * s) % top
                    for z, f, s in zip(
                        dealt["minus"][at : at + size], factors["minus"][at : at + size], sent["plus"], strict=True
                    )
                ],
            }
            return {r: b"".join(v.to_bytes(8, "little") for v in sent[r]) for r in roles}, shares

        first, both = layer(bits, 0)
        spread = {
            "plus": [(b - 2 * z) % top for b, z in zip(bits["plus"], both["plus"], strict=True) for _ in range(D)],
            "minus": [(-b - 2 * z) % top for b, z in zip(bits["minus"], both["minus"], strict=True) for _ in range(D)],
        }
        p = [value - offset for value in mine["plus"]]
        second, crossed = layer({"plus": spread["plus"] + p, "minus": lanes + spread["minus"]}, n)
        size = n * D
        shares = {
            "plus": [
                (s * v + offset - a - b) % top
                for s, v, a, b in zip(spread["plus"], p, crossed["plus"][:size], crossed["plus"][size:], strict=True)
            ],
            "minus": [
                (-s * v - a - b) % top
                for s, v, a, b in zip(
                    spread["minus"], lanes, crossed["minus"][:size], crossed["minus"][size:], strict=True
                )
            ],
        }
        expected = [v * valid[i // D] + offset for i, v in enumerate(x)]
        assert [(a - b) % top for a, b in zip(shares["plus"], shares["minus"], strict=True)] == expected
        cases.append({
            "expect": "valid", "what": what, "valid": valid, "vectors": x, "offset": offset,
            **{r: {
                "bits": sum(b << i for i, b in enumerate(bits[r])).to_bytes((n + 7) // 8, "little").hex(),
                "lanes": _hex(mine[r]), "factors": _hex(factors[r]), "products": _hex(dealt[r]),
                "messages": [first[r].hex(), second[r].hex()], "shares": _hex(shares[r]),
            } for r in roles},
        })  # fmt: skip
    return {"cases": cases}


def digests() -> Json:
    base: Json = {
        "operation": "verify", "threshold": 1260, "request_digest": draw_bytes("request", 32).hex(),
        "device_nonce": draw_bytes("device nonce", 32).hex(), "gallery": "main", "sequence": 7,
        "chain": draw_bytes("chain", 32).hex(), "key_id": draw_bytes("key id", 16).hex(), "epoch": 3, "pair": "ab",
        "stock": draw_bytes("stock", 32).hex(),
    }  # fmt: skip
    sessions = []
    for changes in (
        {},
        {"operation": "candidates"},
        {"sequence": 2**63},
        {"gallery": "Galerie Nürnberg"},
        {"pair": "bc"},
    ):
        r = base | changes
        raw = {x: bytes.fromhex(r[x]) for x in ("request_digest", "device_nonce", "chain", "key_id", "stock")}
        subject = digest(
            "session request", r["operation"], r["threshold"], raw["request_digest"], raw["device_nonce"], r["gallery"]
        )
        context = subject + digest("session gallery", r["gallery"], r["sequence"], raw["chain"])
        context += digest("session keys", raw["key_id"], r["epoch"], r["pair"], raw["stock"])
        coins = [draw_bytes(f"coins {role}", 32) for role in ("plus", "minus")]
        nonces = [digest("session nonce", x) for x in coins]
        secrets = [draw_bytes(f"mask secret {role}", 32) for role in ("plus", "minus")]
        session_id = digest("session id", context, *nonces)
        sessions.append({
            "expect": "valid", "request": r, "subject_matter": subject.hex(), "context": context.hex(),
            "plus_coins": coins[0].hex(), "minus_coins": coins[1].hex(),
            "plus_nonce": nonces[0].hex(), "minus_nonce": nonces[1].hex(), "session_id": session_id.hex(),
            "plus_mask": secrets[0].hex(), "minus_mask": secrets[1].hex(),
            "mask_words": [f"{x:x}" for x in _mask_words(_mask_stream(session_id, secrets, 0, 32))],
        })  # fmt: skip
    body, items = draw_bytes("body", 100), [draw_bytes(f"item {i}", 40) for i in range(3)]
    salt = draw_bytes("salt", 16)
    templates = [["Ada", items[0].hex()], ["Bé", items[1].hex()]]
    packed = [x for subject, record in templates for x in (subject.encode(), bytes.fromhex(record))]
    listed = [i.hex() for i in items]
    values = [
        ("signed_bytes", {"body": body.hex()}, b"veilmatch request v1\0" + body),
        ("request_digest", {"body": body.hex()}, digest("request", body)),
        ("payload_digest", {"items": listed}, digest_all("payload", items)),
        ("payload_digest", {"items": []}, digest_all("payload", [])),
        ("bulk_pack_digest", {"pack": listed[2], "templates": templates}, digest_all("bulk pack", [items[2], *packed])),
        ("bulk_digest", {"items": listed}, digest_all("bulk", items)),
        ("subject_digest", {"salt": salt.hex(), "subject": "Ada Lovelace"}, digest("subject", salt, "Ada Lovelace")),
    ]  # fmt: skip
    return {
        "sessions": sessions,
        "bodies": [
            {"expect": "valid", "what": what, "fields": fields, "body": protobuf(fields).hex()}
            for what, fields in request_bodies()
        ],
        "requests": [{"expect": "valid", "function": f, **given, "result": out.hex()} for f, given, out in values],
    }


#: RequestBody of request.proto: field numbers, and which fields are bytes.
_BODY_FIELDS = {
    "parameter_set": 1, "key_id": 2, "device": 3, "gallery": 4, "operation": 5, "threshold": 6, "pair": 7, "nonce": 8,
    "token": 9, "issued_at_ms": 10, "expires_at_ms": 11, "payload_digest": 12, "subject_digest": 13, "model": 14,
    "knowledge": 15, "new_key_id": 17, "enrolment": 18,
}  # fmt: skip
BODY_BYTES = ("key_id", "nonce", "token", "payload_digest", "subject_digest", "knowledge", "new_key_id", "enrolment")


def request_bodies() -> list[tuple[str, Json]]:
    """What devices sign; fields that are empty are left out of the encoding."""
    common: Json = {
        "parameter_set": "d128-s60-c23-n3072", "key_id": draw_bytes("key id", 16).hex(), "device": "kiosk-1",
        "gallery": "Galerie Nürnberg", "pair": "ac", "nonce": draw_bytes("nonce", 32).hex(),
        "issued_at_ms": 1_700_000_000_250, "expires_at_ms": 1_700_000_060_250,
        "payload_digest": draw_bytes("payload", 32).hex(),
    }  # fmt: skip
    subject, token = draw_bytes("subject", 32).hex(), draw_bytes("token", 16).hex()
    model, lanes = "sface-2021dec-fb143eea", common | {"knowledge": draw_bytes("knowledge", 147).hex()}
    return [
        ("verify", lanes | {"operation": 1, "threshold": 1440, "subject_digest": subject, "model": model}),
        ("candidates", lanes | {"operation": 2, "threshold": 1440, "model": "embedding"}),
        ("enrol", lanes | {"operation": 3, "token": token, "subject_digest": subject, "model": "modèle " + "x" * 57}),
        ("erase", common | {"operation": 4, "token": token, "subject_digest": subject}),
        ("erase one enrolment", common | {
            "operation": 4, "token": draw_bytes("another token", 16).hex(), "subject_digest": subject,
            "enrolment": token,
        }),
        ("bulk enrolment", common | {"operation": 5, "token": token, "model": model}),
        ("subjects", common | {"operation": 6}),
        ("identify", lanes | {"operation": 7, "threshold": 1440, "model": "embedding"}),
        ("rotate", common | {"operation": 8, "new_key_id": draw_bytes("new key id", 16).hex()}),
    ]  # fmt: skip


def protobuf(fields: Json) -> bytes:
    """Encode a RequestBody: fields in the order of their numbers, varints and length-prefixed strings."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    encoded = b""
    for name, number in _BODY_FIELDS.items():
        value = fields.get(name)
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
        elif value is not None:
            data = bytes.fromhex(value) if name in BODY_BYTES else value.encode()
            encoded += varint(number << 3 | 2) + varint(len(data)) + data
    return encoded


# -- proofs of knowledge ----------------------------------------------------------------------------


def knowledge() -> Json:
    """Proofs of knowledge with 1, 2, 3 and 9 ciphertexts, and what makes one of them wrong."""
    good = {
        (D, S, c, bits): known(D, S, c, bits)
        for D, S, c, bits in ((4, 8, 3, 512), (12, 8, 3, 512), (128, 60, 23, 3072), (512, 40, 15, 3072))
    }
    toy = good[12, 8, 3, 512]
    sealed = known(12, 8, 3, 512, sealed=True)
    sealed["what"] += " for a recipient"
    seed, w, (first, second) = toy["proof"][:64], toy["proof"][64:], toy["ciphertexts"]
    other = known(12, 8, 3, 512, "another")
    wrong: list[tuple[str, Json]] = [
        *((f"another {name}", {"fields": toy["fields"] | {name: value}}) for name, value in (
            ("nonce", draw_bytes("another nonce", 32).hex()), ("device", "kiosk-2"), ("gallery", "main"),
            ("device_key", draw_bytes("another key", 32).hex()), ("operation", 2), ("threshold", 41),
        )),
        ("ciphertexts in another order", {"ciphertexts": [second, first]}),
        ("a ciphertext of another vector", {"ciphertexts": [first, other["ciphertexts"][1]]}),
        ("a ciphertext too few", {"ciphertexts": [first]}),
        ("a ciphertext too many", {"ciphertexts": [first, second, second]}),
        ("a ciphertext that is no unit", {"ciphertexts": [first, "00" * 128]}),
        ("a short ciphertext", {"ciphertexts": [first, second[2:]]}),
        ("the proof of another vector", {"proof": other["proof"]}),
        ("another response", {"proof": seed + f"{int(w, 16) + 1:0{len(w)}x}"}),
        ("another seed", {"proof": f"{int(seed, 16) ^ 1:064x}" + w}),
        ("a response of zero", {"proof": seed + "00" * (len(w) // 2)}),
        ("a response that is too large", {"proof": seed + "ff" * (len(w) // 2)}),
        ("a short proof", {"proof": seed + w[:-2]}), ("a long proof", {"proof": seed + w + "00"}),
        ("a response with a zero before it", {"proof": seed + "00" + w}), ("no proof", {"proof": ""}),
        ("a seed alone", {"proof": seed}),
    ]  # fmt: skip
    invalid = [toy | {"expect": "KnowledgeProofError", "what": what} | changes for what, changes in wrong]
    invalid += [
        sealed | {"expect": "KnowledgeProofError", "what": what, "fields": sealed["fields"] | changes}
        for what, changes in (
            ("another recipient", {"recipient": draw_bytes("another recipient", 32).hex()}),
            ("a recipient taken away", {"recipient": "", "challenge": ""}),
            ("another challenge", {"challenge": draw_bytes("another challenge", 20).hex()}),
            ("a challenge taken away", {"challenge": ""}),
        )
    ]
    for case in invalid:
        del case["context"], case["challenges"]
    return {"warning": "UNSAFE keys, see keys.json.", "cases": [*good.values(), sealed, *invalid]}


def known(D: int, S: int, c: int, modulus_bits: int, label: str = "knowledge", sealed: bool = False) -> Json:
    """Return one proof, with its context and challenges. sealed: the answer is for a recipient."""
    key, numbers = Key(modulus_bits), parameter_numbers(D, S, c, modulus_bits)
    N, size, count = key.N, numbers["ciphertext_bytes"], numbers["lane_ciphertexts"]
    label = f"{label} {numbers['name']}"
    randomisers = [draw(f"{label} r {i}", key.randomiser_bits) for i in range(count)]
    plain = [draw(f"{label} m {i}", modulus_bits - 64) for i in range(count)]
    sent = [
        ((1 + m * N) * pow(key.hs, r, key.square) % key.square).to_bytes(size, "big")
        for m, r in zip(plain, randomisers, strict=True)
    ]
    fields: Json = {
        "parameter_set": numbers["name"], "key_id": key.key_id(numbers["name"]).hex(), "device": "kiosk-1",
        "device_key": draw_bytes("device key", 32).hex(), "gallery": "Galerie Nürnberg", "operation": 1,
        "threshold": 40, "pair": "ac", "nonce": draw_bytes("nonce", 32).hex(), "token": "",
        "issued_at_ms": 1_700_000_000_250, "expires_at_ms": 1_700_000_060_250,
        "payload_digest": digest_all("payload", sent).hex(), "subject_digest": draw_bytes("subject", 32).hex(),
        "model": "sface-2021dec-fb143eea", "recipient": draw_bytes("recipient", 32).hex() if sealed else "",
        "challenge": draw_bytes("challenge", 20).hex() if sealed else "",
    }  # fmt: skip
    raw = (bytes.fromhex(v) if name in CONTEXT_BYTES else v for name, v in fields.items())
    context = digest("knowledge context", *raw)
    commitment_bits = key.randomiser_bits + 8 + 128 + math.ceil(math.log2(count)) + 128
    u = draw(f"{label} u", commitment_bits)
    seed = digest("knowledge seed", context, pow(key.hs, u, N).to_bytes(size // 2, "big"), *sent)
    e = [int.from_bytes(digest("knowledge challenge", seed, i)[:16], "big") for i in range(count)]
    w = u + sum(x * r for x, r in zip(e, randomisers, strict=True))
    proof = seed + w.to_bytes((commitment_bits + 9 + 7) // 8, "big")
    return {
        "expect": "valid", "what": numbers["name"], "modulus_bits": modulus_bits, "fields": fields,
        "context": context.hex(), "ciphertexts": [c.hex() for c in sent], "challenges": _hex(e), "proof": proof.hex(),
    }  # fmt: skip


CONTEXT_BYTES = (
    "key_id", "device_key", "nonce", "token", "payload_digest", "subject_digest", "recipient", "challenge",
)  # fmt: skip


# -- key shares -------------------------------------------------------------------------------------


def key_shares() -> Json:
    """UNSAFE like the key that they share.

    Layout: magic, key id, party, epoch, two shares, two parts of the key-safety check, two Gammas, two seeds.
    """
    cases: list[Json] = []
    bits = 512
    key, name = Key(bits), "UNSAFE-d4-s8-c3-n512"
    limit, safety_limit = 1 << (key.randomiser_bits + 16), 1 << (key.randomiser_bits + 128 + 16)
    exponent_bytes, safety_bytes = (key.randomiser_bits + 17 + 7) // 8, (key.randomiser_bits + 128 + 17 + 7) // 8
    shares = {pair: dict(zip(pair, key.split(f"key shares {pair}"), strict=True)) for pair in ("ab", "ac", "bc")}
    gammas = [draw(f"gamma of a dealer {i}", 128) for i in range(2)]

    def safety_of(pair: str, party: str) -> list[int]:
        """Gamma, t and key of kappa as verifier, t and tag of kappa as prover: any numbers of the right sizes."""
        what = f"safety {pair} {party}"
        t = [draw(f"{what} t {i}", key.randomiser_bits + 128) for i in range(2)]
        kappas = [draw(f"{what} kappa {i}", bits + 64) % key.N for i in range(2)]
        return [draw(f"{what} gamma", 128), t[0], kappas[0], t[1], kappas[1]]

    seeds = [draw_bytes(f"seed {i}", 32) for i in (1, 2)]
    both_seeds = {"dealing_seed": seeds[0].hex(), "storage_seed": seeds[1].hex()}
    sizes = (16, safety_bytes, bits // 8, safety_bytes, bits // 8)

    def encode(
        party: bytes, epoch: int, parts: list[tuple[int, int]], safety: list[list[int]], key_id: bytes,
        magic: bytes = b"VMSHARE2", dealt: list[int] = gammas,
    ) -> bytes:  # fmt: skip
        body = b"".join(o.to_bytes(exponent_bytes, "big") + k.to_bytes(bits // 8, "big") for o, k in parts)
        body += b"".join(x.to_bytes(size, "big") for part in safety for x, size in zip(part, sizes, strict=True))
        body += b"".join(x.to_bytes(16, "big") for x in dealt)
        return struct.pack(">8s16s1sI", magic, key_id, party, epoch) + body + b"".join(seeds)

    def valid(what: str, party: str, epoch: int, parts: list[tuple[int, int]], safety: list[list[int]]) -> Json:
        encoding = encode(party.encode(), epoch, parts, safety, own_id)
        return {
            "expect": "valid", "what": what, "encoding": encoding.hex(), "party": party, "epoch": epoch,
            "pairs": [pair for pair in shares if party in pair], "exponents": _hex([limit + o for o, _ in parts]),
            "kappas": _hex([k for _, k in parts]),
            "safety": [
                {
                    "gamma": f"{gamma:x}", "exponents": _hex([safety_limit + t, safety_limit + u]),
                    "kappa": _hex([kappa_key, kappa_tag]),
                }
                for gamma, t, kappa_key, u, kappa_tag in safety
            ],
            "dealer_gammas": _hex(gammas), **both_seeds,
        }  # fmt: skip

    own_id = key.key_id(name)
    for party, epoch in (("a", 1), ("b", 2), ("c", 2**32 - 1)):
        pairs = [pair for pair in shares if party in pair]
        parts = [shares[pair][party] for pair in pairs]
        cases.append(valid(f"party {party}", party, epoch, parts, [safety_of(pair, party) for pair in pairs]))
    ab, ac = shares["ab"]["a"], shares["ac"]["a"]
    safe_ab, safe_ac = safety_of("ab", "a"), safety_of("ac", "a")
    largest = [2**128 - 1, safety_limit - 1, key.N - 1, safety_limit - 1, key.N - 1]
    good = encode(b"a", 1, [ab, ac], [safe_ab, safe_ac], own_id)
    cases.append(valid("the largest share", "a", 1, [(limit - 1, key.N - 1), ac], [largest, safe_ac]))
    other_id = Key(bits).key_id("UNSAFE-d12-s8-c3-n512")

    def with_parts(parts: list[tuple[int, int]]) -> bytes:
        return encode(b"a", 1, parts, [safe_ab, safe_ac], own_id)

    def with_safety(at: int, value: int) -> bytes:
        return encode(b"a", 1, [ab, ac], [safe_ab, [*safe_ac[:at], value, *safe_ac[at + 1 :]]], own_id)

    both = [safe_ab, safe_ac]
    for expect, what, data in (
        ("KeyFileError", "empty", b""), ("KeyFileError", "magic alone", good[:8]),
        ("KeyFileError", "a byte short", good[:-1]), ("KeyFileError", "a byte long", good + b"\0"),
        ("KeyFileError", "header alone", good[:29]), ("KeyFileError", "half", good[: len(good) // 2]),
        ("KeyFileError", "another magic", encode(b"a", 1, [ab, ac], both, own_id, b"VMSHARE3")),
        ("KeyFileError", "the magic of the format before", encode(b"a", 1, [ab, ac], both, own_id, b"VMSHARE1")),
        ("KeyFileError", "a party d", encode(b"d", 1, [ab, ac], both, own_id)),
        ("KeyFileError", "a party A", encode(b"A", 1, [ab, ac], both, own_id)),
        ("KeyFileError", "epoch 0", encode(b"a", 0, [ab, ac], both, own_id)),
        ("KeyFileError", "an exponent of one bit more", with_parts([(limit, ab[1]), ac])),
        ("KeyFileError", "kappa = N", with_parts([ab, (ac[0], key.N)])),
        ("KeyFileError", "kappa of all ones", with_parts([(ab[0], 2**bits - 1), ac])),
        ("KeyFileError", "a verifier's t of one bit more", with_safety(1, safety_limit)),
        ("KeyFileError", "a key of kappa = N", with_safety(2, key.N)),
        ("KeyFileError", "a prover's t of one bit more", with_safety(3, safety_limit)),
        ("KeyFileError", "a tag of kappa = N", with_safety(4, key.N)),
        ("KeyMismatchError", "another parameter set", encode(b"a", 1, [ab, ac], both, other_id)),
        ("KeyMismatchError", "a bit of the key id", good[:8] + bytes([good[8] ^ 1]) + good[9:]),
    ):  # fmt: skip
        cases.append({"expect": expect, "what": what, "encoding": data.hex()})
    return {
        "warning": "UNSAFE: shares of a throw-away key",
        "parameter_set": name,
        "modulus_bits": bits,
        "cases": cases,
    }


def refreshing() -> Json:
    """UNSAFE like the key. Every random value is AES-256-CTR from zero, keyed by a digest of the seed and a label."""
    cases: list[Json] = []
    bits = 512
    key, name = Key(bits), "UNSAFE-d4-s8-c3-n512"
    own_id, limit = key.key_id(name), 1 << (key.randomiser_bits + 16)
    for refresh, epoch, pair in (("first", 2, "ab"), ("first", 2, "ac"), ("first", 2, "bc"), ("last", 65535, "bc")):
        refresh_id = draw_bytes(f"refresh {refresh}", 32)
        plus, minus = (draw_bytes(f"contribution {refresh} {pair} {role}", 32) for role in ("plus", "minus"))
        label = (refresh_id, own_id, epoch, pair)
        seed = digest("refresh seed", *label, plus, minus)

        def value(what: str, size: int, label: tuple[bytes, bytes, int, str] = label, seed: bytes = seed) -> int:
            stream = _keystream(digest("refresh value", *label, what.encode(), seed), -(-size // 16) * 16)
            return int.from_bytes(stream[:size], "big")

        width = (key.randomiser_bits + 7) // 8
        r = value("o", width) >> (8 * width - key.randomiser_bits)
        x = value("kappa", (bits + 128 + 7) // 8) % key.N
        shares = dict(zip(pair, key.split(f"key shares {pair}"), strict=True))
        cases.append({
            "expect": "valid", "what": f"{refresh} {pair}", "refresh_id": refresh_id.hex(), "key_id": own_id.hex(),
            "epoch": epoch, "pair": pair, "plus": plus.hex(), "minus": minus.hex(),
            "commitment": digest("refresh commitment", *label, plus).hex(), "seed": seed.hex(),
            "added": _hex([r, x]), "before": {p: _hex(list(share)) for p, share in shares.items()},
            "after": {p: _hex([o + r, (k + x) % key.N]) for p, (o, k) in shares.items()},
            "exponents": {p: f"{limit + o + r:x}" for p, (o, _) in shares.items()},
        })  # fmt: skip
    other = dict(cases[0])
    cases.append({
        "expect": "ProtocolError", "what": "another contribution than the one committed to",
        **{n: other[n] for n in ("refresh_id", "key_id", "epoch", "pair", "commitment")}, "plus": other["minus"],
        "minus": other["plus"],
    })  # fmt: skip
    cases.append({
        "expect": "ProtocolError", "what": "the same contribution sent back",
        **{n: other[n] for n in ("refresh_id", "key_id", "epoch", "pair", "commitment", "plus")},
        "minus": other["plus"],
    })  # fmt: skip
    return {
        "warning": "UNSAFE: shares of a throw-away key",
        "parameter_set": name,
        "modulus_bits": bits,
        "cases": cases,
    }


def device_certificates() -> Json:
    """Certificates of devices, each a file as it is; keys of the organisations from seeds."""
    keys = {party: Ed25519PrivateKey.from_private_bytes(draw_bytes(f"certifier {party}", 32)) for party in "abc"}
    public = {party: key.public_key().public_bytes_raw().hex() for party, key in keys.items()}
    base: Json = {
        "format": "veilmatch device certificate 2", "installation": draw_bytes("certificate installation", 16).hex(),
        "device": "door-2", "public_key": draw_bytes("certificate key", 32).hex(), "rights": ["enrol", "verify"],
        "galleries": ["main", "\u00e9tage"], "lowest_thresholds": {"verify": 26}, "not_before": 1_700_000_000,
        "not_after": 1_800_000_000, "serial": draw_bytes("certificate serial", 16).hex(),
    }  # fmt: skip

    def signed_bytes(said: Json) -> bytes:
        liveness = said.get("liveness", [])
        version = b"v4" if liveness else b"v3" if said.get("recipient_only") else b"v2"
        demanded = (int(said["recipient_only"]), len(liveness), *liveness) if liveness else ()
        return b"veilmatch device certificate " + version + b"\0" + digest(
            "device certificate", bytes.fromhex(said["installation"]), said["device"],
            bytes.fromhex(said["public_key"]), len(said["rights"]), *said["rights"], len(said["galleries"]),
            *said["galleries"], len(said["lowest_thresholds"]),
            *(part for bound in said["lowest_thresholds"].items() for part in bound),
            said["not_before"], said["not_after"], bytes.fromhex(said["serial"]), *demanded,
        )  # fmt: skip

    def written(said: Json, signatures: Json) -> str:
        return json.dumps(said | {"signatures": signatures}, indent=1) + "\n"

    def signatures(said: Json, *parties: str) -> Json:
        return {party: keys[party].sign(signed_bytes(said)).hex() for party in parties}

    # In the order of the file.
    sealed_only: Json = {}
    for name, value in (base | {"format": "veilmatch device certificate 3"}).items():
        sealed_only |= {"recipient_only": True, name: value} if name == "not_before" else {name: value}
    demanding: Json = {}
    for name, value in (base | {"format": "veilmatch device certificate 4"}).items():
        more = {"recipient_only": False, "liveness": [draw_bytes("detector", 32).hex()]} if name == "not_before" else {}
        demanding |= more | {name: value}
    # The least threshold that there is, the largest of the parameter set (S = 8), and one between.
    compared = {"candidates": 64, "identify": 1, "verify": 26}
    cases = []
    for what, changes, parties in (
        ("a and b", {}, "ab"),
        ("b and c", {"galleries": ["*"]}, "bc"),
        ("all three", {"rights": ["verify"], "not_before": 0, "not_after": 2**53}, "abc"),
        ("every right that compares", {"rights": list(compared), "lowest_thresholds": compared}, "ab"),
        ("none that compares", {"rights": ["erase"], "lowest_thresholds": {}}, "ac"),
        ("for a recipient only", sealed_only, "ab"),
        ("after a check of liveness by one detector", demanding, "bc"),
        ("after one by any, for a recipient only", demanding | {"recipient_only": True, "liveness": ["*"]}, "ab"),
    ):
        said = changes if "format" in changes else base | changes
        cases.append({
            "expect": "valid", "what": what, "file": written(said, signatures(said, *parties)),
            "signed_bytes": signed_bytes(said).hex(), "organisations": list(parties),
        })  # fmt: skip
    good, other = signatures(base, "a", "b"), base | {"rights": ["enrol", "erase", "verify"]}
    lower = base | {"lowest_thresholds": {"verify": 25}}
    elsewhere = base | {"installation": "00" * 16}
    for what, said, found in (
        ("nobody", base, {}),
        ("one organisation", base, signatures(base, "a")),
        ("one organisation in two places", base, {"a": good["a"], "b": good["a"]}),
        ("two organisations in each other's place", base, {"a": good["b"], "b": good["a"]}),
        ("a third signature that is wrong", base, good | {"c": good["a"]}),
        ("a right that was not signed", other, good),
        ("a threshold lower than what was signed", lower, good),
        ("the format of a recipient only, signed for everything", sealed_only, good),
        ("everything, signed for a recipient only", base, signatures(sealed_only, "a", "b")),
        ("the format of a demand of liveness, signed without", demanding, good),
        ("another detector than was signed", demanding | {"liveness": ["*"]}, signatures(demanding, "a", "b")),
        ("a demand of liveness, empty", demanding | {"liveness": []}, good),
        ("a recipient only, not true", sealed_only | {"recipient_only": False}, good),
        *(
            ("a recipient only, and no right that compares", said, signatures(said, "a", "b"))
            for said in (sealed_only | {"rights": ["enrol"], "lowest_thresholds": {}},)
        ),
        ("another installation", elsewhere, signatures(elsewhere, "a", "b")),
        ("an organisation d", base, good | {"d": good["a"]}),
        ("organisations in another order", base, {"b": good["b"], "a": good["a"]}),
        ("a signature of 63 bytes", base, {"a": good["a"], "b": good["b"][:-2]}),
        *(
            (what, base | changes, signatures(base | changes, *"ab"))
            for what, changes in (
                ("an unknown right", {"rights": ["everything"]}), ("no right", {"rights": []}),
                ("a right twice", {"rights": ["verify", "verify"]}),
                ("unsorted rights", {"rights": ["verify", "enrol"]}),
                ("no lowest threshold", {"lowest_thresholds": {}}),
                ("a lowest threshold without the right", {"lowest_thresholds": {"identify": 26, "verify": 26}}),
                ("a lowest threshold where nothing is compared", {"lowest_thresholds": {"enrol": 26, "verify": 26}}),
                ("one for two", {"rights": ["identify", "verify"]}),
                ("a lowest threshold of 0", {"lowest_thresholds": {"verify": 0}}),
                ("one above all scores", {"lowest_thresholds": {"verify": 65}}),
                ("one above those of all parameter sets", {"lowest_thresholds": {"verify": 2**20 + 1}}),
                (
                    "unsorted lowest thresholds",
                    {"rights": ["identify", "verify"], "lowest_thresholds": {"verify": 26, "identify": 26}},
                ),
                ("no gallery", {"galleries": []}), ("* among others", {"galleries": ["*", "main"]}),
                ("a name with capitals", {"device": "Door"}), ("a daemon's name", {"device": "matcher-a"}),
                ("no time", {"not_after": 1_700_000_000}), ("a time that is no exact number", {"not_after": 2**53 + 1}),
                ("a short serial", {"serial": "00" * 15}), ("a short key", {"public_key": "00" * 31}),
            )
        ),
    ):  # fmt: skip
        cases.append({"expect": "DeviceCertificateError", "what": what, "file": written(said, found)})
    old = {name: value for name, value in base.items() if name != "lowest_thresholds"}
    old["format"] = "veilmatch device certificate 1"
    for what, file in (
        ("another format", written(base | {"format": "veilmatch device certificate 4"}, good)),
        ("the format before", written(old, good)),
        ("the name of the format before", written(base | {"format": old["format"]}, good)),
        ("a list of lowest thresholds", written(base | {"lowest_thresholds": [["verify", 26]]}, good)),
        ("true for a threshold", written(base | {"lowest_thresholds": {"verify": True}}, good)),
        ("a fraction for a threshold", written(base | {"lowest_thresholds": {"verify": 26.0}}, good)),
        ("a lowest threshold twice", written(base, good).replace(' "verify": 26', ' "verify": 1,\n  "verify": 26')),
        ("no line end", written(base, good)[:-1]),
        ("other spaces", json.dumps(base | {"signatures": good}, indent=2) + "\n"),
        ("letters as they are", written(base, good).replace("\\u00e9", "\u00e9")),
        ("a field twice", written(base, good).replace(' "device"', ' "device": "door-3",\n "device"')),
        ("a field more", written(base | {"comment": ""}, good)),
        ("true for a time", written(base | {"not_before": True}, good)),
        ("a fraction for a time", written(base | {"not_before": 1.5}, good)),
    ):
        cases.append({"expect": "DeviceCertificateError", "what": what, "file": file})
    return {"installation": base["installation"], "organisations": public, "cases": cases}


def _hpke_seal(recipient: bytes, ephemeral: bytes, info: bytes, aad: bytes, plain: bytes) -> bytes:
    """RFC 9180, sections 4.1, 5.1 and 6.1: base mode, X25519, HKDF-SHA256, ChaCha20Poly1305; sequence number 0."""
    kem, suite = b"KEM\0\x20", b"HPKE\0\x20\0\1\0\3"

    def extract(of: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + of + label + secret, "sha256")

    def expand(of: bytes, secret: bytes, label: bytes, about: bytes, size: int) -> bytes:
        labelled = size.to_bytes(2, "big") + b"HPKE-v1" + of + label + about
        return HKDFExpand(hashes.SHA256(), size, labelled).derive(secret)

    key = X25519PrivateKey.from_private_bytes(ephemeral)
    encapsulated = key.public_key().public_bytes_raw()
    agreed = extract(kem, b"", b"eae_prk", key.exchange(X25519PublicKey.from_public_bytes(recipient)))
    shared = expand(kem, agreed, b"shared_secret", encapsulated + recipient, 32)
    context = b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, shared, b"secret", b"")
    cipher = ChaCha20Poly1305(expand(suite, secret, b"key", context, 32))
    return encapsulated + cipher.encrypt(expand(suite, secret, b"base_nonce", context, 12), plain, aad)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_STATEMENTS = "veilmatch-answer-share-v1+jwt"


class _Recipient:
    """A recipient with its certificate, and organisations that state answers for it."""

    def __init__(self) -> None:
        self.signers = {p: Ed25519PrivateKey.from_private_bytes(draw_bytes(f"signer {p}", 32)) for p in "abc"}
        self.key = X25519PrivateKey.from_private_bytes(draw_bytes("recipient key", 32))
        self.public = self.key.public_key().public_bytes_raw()
        self.said: Json = {
            "format": "veilmatch recipient certificate 1",
            "installation": draw_bytes("recipient installation", 16).hex(), "recipient": "Banque \u00e9tage",
            "public_key": self.public.hex(), "not_before": 1_700_000_000, "not_after": 1_800_000_000,
            "serial": draw_bytes("recipient serial", 16).hex(),
        }  # fmt: skip

    @staticmethod
    def id_of(said: Json) -> bytes:
        return digest(
            "recipient certificate", bytes.fromhex(said["installation"]), said["recipient"],
            bytes.fromhex(said["public_key"]), said["not_before"], said["not_after"], bytes.fromhex(said["serial"]),
        )  # fmt: skip

    def signatures(self, said: Json, parties: str) -> Json:
        signed = b"veilmatch recipient certificate v1\0" + self.id_of(said)
        return {party: self.signers[party].sign(signed).hex() for party in parties}

    def claims(self, party: str, pair: str, **changes: Any) -> Json:
        subject = digest("subject", draw_bytes("answer salt", 16), "alice").hex()
        return {
            "installation": self.said["installation"], "key_id": draw_bytes("answer key", 16).hex(),
            "organisation": party, "pair": pair, "request": draw_bytes(f"answer request {pair}", 32).hex(),
            "session": draw_bytes(f"answer session {pair}", 32).hex(), "device": "door-2", "operation": "verify",
            "subject_digest": subject, "labels_digest": "", "threshold": 6351, "gallery": "main", "sequence": 12,
            "chain": draw_bytes("answer chain", 32).hex(), "recipient": self.id_of(self.said).hex(),
            "challenge": "c0ffee", "count": 1, "iat": 1_750_000_000, "exp": 1_750_000_600,
        } | changes  # fmt: skip

    def statement(
        self, claims: Json, share: bytes, signer: str = "", typ: str = "veilmatch-answer-share-v1+jwt"
    ) -> str:
        """One organisation's JWS. signer: who signs in its place."""
        about = json.dumps(claims, separators=(",", ":")).encode()
        info = b"veilmatch answer share v1\0" + digest("answer share", about)
        ephemeral = draw_bytes(f"ephemeral {claims['organisation']} {claims['pair']}", 32)
        claims = claims | {"share": _base64url(_hpke_seal(self.public, ephemeral, info, b"", share))}
        parts = [f'{{"alg":"EdDSA","typ":"{typ}"}}'.encode(), json.dumps(claims, separators=(",", ":")).encode()]
        text = ".".join(map(_base64url, parts))
        return f"{text}.{_base64url(self.signers[signer or claims['organisation']].sign(text.encode()))}"

    def pair(self, pair: str, answer: int, count: int = 1, valid: int = 1, **changes: Any) -> list[str]:
        size = (count + 7) // 8
        mask = draw(f"answer mask {pair}", 8 * size)
        shares = [mask.to_bytes(size, "little") + b"\1", (mask ^ answer).to_bytes(size, "little") + bytes([1 ^ valid])]
        return [
            self.statement(self.claims(party, pair, **changes | {"count": count}), share)
            for party, share in zip(pair, shares, strict=True)
        ]


def recipients() -> Json:
    """Certificates of recipients, a vector of RFC 9180, and sealed answers with what they say."""
    made = _Recipient()
    rfc = {
        "private_key": "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
        "info": "4f6465206f6e2061204772656369616e2055726e", "aad": "436f756e742d30",
        "plain": "4265617574792069732074727574682c20747275746820626561757479",
        "sealed": "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
    }  # fmt: skip
    certificates = []
    said, good = made.said, made.signatures(made.said, "ab")

    def written(said: Json, signatures: Json) -> str:
        return json.dumps(said | {"signatures": signatures}, indent=1) + "\n"

    for parties in ("ab", "bc", "abc"):
        certificates.append({
            "expect": "valid", "what": f"signed by {parties}", "file": written(said, made.signatures(said, parties)),
            "id": made.id_of(said).hex(),
        })  # fmt: skip
    elsewhere = said | {"installation": "00" * 16}
    for what, file in (
        ("nobody", written(said, {})),
        ("one organisation", written(said, made.signatures(said, "a"))),
        ("one in two places", written(said, {"a": good["a"], "b": good["a"]})),
        ("another key than was signed", written(said | {"public_key": "09" + "00" * 31}, good)),
        ("another installation", written(elsewhere, made.signatures(elsewhere, "ab"))),
        ("a point of small order", written(said | {"public_key": "00" * 32}, good)),
        ("a key above the field", written(said | {"public_key": "ff" * 32}, good)),
        ("a field more", written(said | {"comment": ""}, good)),
        ("no line end", written(said, good)[:-1]),
        ("other spaces", json.dumps(said | {"signatures": good}) + "\n"),
    ):
        certificates.append({"expect": "RecipientCertificateError", "what": what, "file": file})

    labels = ["alice", "bob", "bob", "\u00c9ve"]
    search: Json = {"labels_digest": digest_all("answer labels", [x.encode() for x in labels]).hex()}
    search |= {"subject_digest": ""}
    answers = []

    def answer(what: str, statements: list[str], expect: str = "valid", **more: Any) -> None:
        labelled = more.pop("labels", [])
        salt = "" if labelled else draw_bytes("answer salt", 16).hex()
        fields = {"format": "veilmatch sealed answer 1", "salt": salt, "statements": statements, "labels": labelled}
        answers.append({"expect": expect, "what": what, "answer": fields, "subject": "alice", **more})

    first, second = made.pair("ab", 1)
    answer("a match", [first, second], decision=True)
    answer("in the other order", [second, first], decision=True)
    answer("no match", made.pair("ac", 0), decision=False)
    answer("an invalid probe", made.pair("bc", 0, valid=0), decision=False)
    answer("three pairs", [one for pair in ("ab", "ac", "bc") for one in made.pair(pair, 1)], decision=True)
    identify = search | {"operation": "identify"}
    answer("found", made.pair("ab", 4, 3, **identify), labels=labels, subject=None, decision=True, found=labels[3])
    answer("nobody", made.pair("ab", 0, 3, **identify), labels=labels, subject=None, decision=False, found=None)
    candidates = search | {"operation": "candidates"}
    answer(
        "candidates", made.pair("ab", 0b0111, 4, **candidates), labels=labels, subject=None, decision=True,
        subjects=["alice", "bob"],
    )  # fmt: skip
    mine = made.claims("b", "ab")
    refused = "StatementError"
    answer("one statement", [first], refused)
    answer("one statement twice", [first, first], refused)
    answer("two pairs mixed", [first, made.pair("ac", 1)[1]], refused)
    answer("signed by another organisation", [first, made.statement(mine, b"\0\0", "c")], refused)
    answer("another kind of statement", [first, made.statement(mine, b"\0\0", typ="veilmatch-promise")], refused)
    answer("a share of another size", [first, made.statement(mine, b"\0\0\0")], refused)
    answer("a validity that is no bit", [first, made.statement(mine, b"\0\2")], refused)
    answer("pairs that differ", [*made.pair("ab", 1), *made.pair("ac", 0)], "DisagreementError")
    answer("other labels", made.pair("ab", 4, 3, **identify), refused, labels=[*labels[:3], "eve"], subject=None)
    answer("no such template", made.pair("ab", 5, 3, **identify), refused, labels=labels, subject=None)
    for what, changes in (
        ("another request", {"request": "00" * 32}), ("another session", {"session": "00" * 32}),
        ("another threshold", {"threshold": 6350}), ("another gallery state", {"chain": "00" * 32}),
        ("another challenge", {"challenge": ""}), ("another device", {"device": "door-3"}),
    ):  # fmt: skip
        answer(f"{what} at one of them", [first, made.statement(mine | changes, b"\0\0")], "StatementMismatchError")
    for what, changes in (
        ("another installation", {"installation": "00" * 16}), ("another key", {"key_id": "00" * 16}),
        ("another recipient", {"recipient": "00" * 32}), ("another subject", {"subject_digest": "00" * 32}),
    ):  # fmt: skip
        answer(what, made.pair("ab", 1, **changes), "StatementMismatchError")
    for what, changes in (("expired", {"iat": 1, "exp": 1_749_999_900}), ("ahead", {"iat": 1_750_000_500})):
        answer(what, made.pair("ab", 1, **changes), "StatementTimeError")
    public = {
        "format": "veilmatch public key 2", "installation": said["installation"],
        "parameter_set": "d128-s126-c38-n3072", "key_id": draw_bytes("answer key", 16).hex(),
        "signers": {party: key.public_key().public_bytes_raw().hex() for party, key in made.signers.items()},
    }  # fmt: skip
    return {
        "warning": "UNSAFE: the private key of the recipient", "rfc_9180_a_2_1_1": rfc, "public": public,
        "private_key": made.key.private_bytes_raw().hex(), "certificate": written(said, good), "now": 1_750_000_060,
        "challenge": "c0ffee", "certificates": certificates, "answers": answers,
    }  # fmt: skip


FILES = {
    "parameter_sets": parameter_sets, "packing": packing, "encryption": encryption, "conversion": conversion,
    "dealing": dealing, "device_certificates": device_certificates, "digests": digests, "key_safety": key_safety,
    "key_shares": key_shares, "knowledge": knowledge, "last_mask": last_mask, "multiplication": multiplication,
    "recipients": recipients, "refreshing": refreshing, "session_mask": session_mask,
}  # fmt: skip


def encoded(content: Json) -> str:
    """JSON with one case to a line."""
    parts = []
    for name, value in content.items():
        cases = value if isinstance(value, list) else None
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) if cases else ""
        parts.append(f"{json.dumps(name)}: " + (f"[\n{lines}\n]" if cases else json.dumps(value)))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def outdated() -> list[str]:
    """Return the names of the files that are not what this script makes."""
    return [name for name, make in FILES.items() if encoded(make()) != (FOLDER / f"{name}.json").read_text()]


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        wrong = outdated()
        print("\n".join(f"{name}.json is not what generate.py makes" for name in wrong) or "all vectors are up to date")
        return 1 if wrong else 0
    if arguments == ["--new-keys"]:
        (FOLDER / "keys.json").write_text(encoded(new_keys()))
    elif arguments:
        print(__doc__)
        return 2
    for name, make in FILES.items():
        (FOLDER / f"{name}.json").write_text(encoded(make()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
