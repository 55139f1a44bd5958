"""A matcher that changes a gallery until it is killed, or its server is; run by test_store_kill.

Mutation n is decided by n alone: every third erases what the one before has enrolled. After each
commit its number is printed, which is the acknowledgement that a client would get.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.matcher.galleries import KEY_ID, mutation, run
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import GalleriesIn, StorageSettings
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.mutation import Mutation

# Packs of 64 kB, so that a kill finds a transaction half written.
PARAMETERS = ParameterSet(dimension=512, scale=60, clip=23, modulus_bits=512)


def nth(number: int) -> Mutation:
    def place(n: int) -> tuple[int, int]:
        return divmod(n, PARAMETERS.slots)

    if number % 3 == 2:
        return mutation(number, removed=[place(number - 1)], parameters=PARAMETERS)
    return mutation(number, added=[(*place(number), f"subject {number}")], parameters=PARAMETERS)


def argument(where: GalleriesIn) -> str:
    """Return a place as this program takes it."""
    return str(where) if isinstance(where, Path) else where.model_dump_json()


def place_of(given: str) -> GalleriesIn:
    """Return the place of an argument."""
    return StorageSettings.model_validate_json(given) if given.startswith("{") else Path(given)


def main(where: GalleriesIn) -> None:
    store = Store(where, KEY_ID, PARAMETERS)
    number = store.open_gallery("staff").sequence
    while True:
        run(store, "staff", nth(number))
        print(number, flush=True)
        number += 1


if __name__ == "__main__":
    main(place_of(sys.argv[1]))
