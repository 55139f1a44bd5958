"""Records of templates, as a matcher hands them to its key holder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.secret_access import SecretHolder
from veilmatch.server.matcher.gallery.mutation import Record


@dataclass(frozen=True, slots=True, repr=False)
class Records(SecretHolder):
    """Lane ciphertexts of records, joined, and which of the records a device encrypted, bool[n]."""

    ciphertexts: Sequence[bytes]
    by_device: NDArray[np.bool_]


NO_RECORDS = Records((), np.zeros(0, dtype=np.bool_))


def records_of(found: Sequence[Record], parameters: ParameterSet) -> Records:
    """Return records as the key holder is given them."""
    ciphertexts = [c for record in found for c in pieces(record.ciphertexts, parameters.ciphertext_bytes)]
    return Records(ciphertexts, np.array([record.by_device for record in found], dtype=np.bool_))


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cut `data` into pieces of this size."""
    return [data[i : i + size] for i in range(0, len(data), size)]
