"""Small galleries for the tests: toy parameters, mutations made of numbers, and a model of a store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.gallery.mutation import Mutation, Record, Template, initial_chain, next_chain
from veilmatch.server.matcher.gallery.store import Store

PARAMETERS = ParameterSet(dimension=4, scale=60, clip=23, modulus_bits=512)
KEY_ID = b"key of the tests"
MODEL = "model-1"
PACK_BYTES = PARAMETERS.dimension * PARAMETERS.ciphertext_bytes
RECORD_BYTES = PARAMETERS.lane_ciphertexts * PARAMETERS.ciphertext_bytes


def content(seed: str, size: int) -> bytes:
    """Return `size` bytes that only this seed gives."""
    return hashlib.shake_256(seed.encode()).digest(size)


def mutation(
    number: int,
    added: Iterable[tuple[int, int, str]] = (),
    removed: Iterable[tuple[int, int]] = (),
    parameters: ParameterSet = PARAMETERS,
    model: str = MODEL,
) -> Mutation:
    """Return the mutation with token `number` that adds and removes these; `number` decides all contents."""
    added, removed = list(added), list(removed)
    pack_bytes = parameters.dimension * parameters.ciphertext_bytes
    record_bytes = parameters.lane_ciphertexts * parameters.ciphertext_bytes
    touched = {pack for pack, _, _ in added} | {pack for pack, _ in removed}
    return Mutation(
        kind="enrol" if added else "erase",
        token=f"token {number}".encode(),
        request_digest=hashlib.sha256(f"request {number}".encode()).digest(),
        packs={pack: content(f"pack {number} {pack}", pack_bytes) for pack in touched},
        added=[
            Template(p, s, subject, content(f"record {number} {p} {s}", record_bytes), by_device=bool(number % 2))
            for p, s, subject in added
        ],
        removed=removed,
        result=f'{{"number": {number}}}',
        model=model if added else "",
        device=f"device-{number % 3}",
    )


@dataclass
class Model:
    """What a gallery should hold, in dictionaries."""

    name: str
    parameters: ParameterSet = PARAMETERS
    packs: dict[int, bytes] = field(default_factory=dict)
    templates: dict[tuple[int, int], tuple[str, Record]] = field(default_factory=dict)
    committed: list[Mutation] = field(default_factory=list)

    def commit(self, mutation: Mutation) -> None:
        for place in mutation.removed:
            del self.templates[place]
        self.packs.update(mutation.packs)
        self.templates |= {(t.pack, t.slot): (t.subject, Record(t.record, t.by_device)) for t in mutation.added}
        self.committed.append(mutation)

    def chain(self) -> bytes:
        chain = initial_chain(self.name, KEY_ID, self.parameters)
        for sequence, mutation in enumerate(self.committed, start=1):
            chain = next_chain(chain, sequence, mutation.digest())
        return chain

    def check(self, store: Store) -> None:
        """Assert that the store holds exactly this."""
        state = store.state(self.name)
        assert (state.sequence, state.chain) == (len(self.committed), self.chain())
        assert dict(store.packs(self.name)) == self.packs
        listed = [(pack, slot, subject) for (pack, slot), (subject, _) in sorted(self.templates.items())]
        assert list(store.templates(self.name)) == listed
        for (pack, slot), (_, record) in self.templates.items():
            assert store.record(self.name, pack, slot) == record
        for sequence, mutation in enumerate(self.committed, start=1):
            entry = store.find_token(self.name, mutation.token)
            assert entry is not None
            said = (entry.sequence, entry.kind, entry.request_digest, entry.result, entry.device)
            assert said == (sequence, mutation.kind, mutation.request_digest, mutation.result, mutation.device)


def run(store: Store, name: str, mutation: Mutation) -> None:
    """Prepare and commit."""
    pending = store.prepare(name, mutation).pending_chain
    assert pending is not None
    store.commit(name, pending)
