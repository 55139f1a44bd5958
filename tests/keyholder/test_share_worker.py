"""What the workers of a key holder answer is what the scheme computes with its exponents."""

from __future__ import annotations

import pytest

from tests.keyholder.trio import LocalPool, ceremony
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import UnavailableError
from veilmatch.crypto.pair.key_safety import draw_weights
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.keyholder.session.share_worker import ShareWorkers

COUNTS = (1, 4, 8, 9, 20)


def values(shares: list[LocalShare] | tuple[LocalShare, ...]) -> list[tuple[Integer, Integer]]:
    return [(share.z, share.fingerprint) for share in shares]


@pytest.mark.parametrize("count", COUNTS)
async def test_local_shares_and_those_of_the_combination(count: int) -> None:
    public_key, key = ceremony().public_key, ceremony().keys[0]
    scheme = Paillier(public_key)
    workers = ShareWorkers(LocalPool(), scheme)  # type: ignore[arg-type]
    await workers.setup(key)
    ciphertexts = [scheme.encrypt(Integer(i)) for i in range(count)]
    for pair in ("ab", "ac"):
        exponent = key.share(pair).exponent(public_key, SECRET_ACCESS)
        assert values(await workers.local_shares(pair, key.epoch, ciphertexts)) == values(
            scheme.local_shares(ciphertexts, exponent)
        )
        weights = draw_weights(bytes(32), b"a", pair.encode(), count).rho
        c_star = 1
        for c, weight in zip(ciphertexts, weights, strict=True):
            c_star = c_star * pow(int(c), weight, int(public_key.modulus) ** 2) % int(public_key.modulus) ** 2
        exponents = key.safety(pair).exponents(public_key, SECRET_ACCESS)
        expected = [scheme.local_shares([Integer(c_star)], t)[0] for t in exponents]
        assert values(await workers.safety_shares(pair, key.epoch, ciphertexts, weights)) == values(expected)
        with pytest.raises(UnavailableError):
            await workers.safety_shares(pair, key.epoch + 1, ciphertexts, weights)
