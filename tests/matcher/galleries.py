"""Small galleries for the tests: toy parameters, mutations made of numbers, and a model of a store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from veilmatch.crypto.gallery_change import ACCEPTANCE, next_chain
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import PROPOSAL, Certificate, Scope, Vote
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import Mutation, Record, Template, initial_chain

PARAMETERS = ParameterSet(dimension=4, scale=60, clip=23, modulus_bits=512)
KEY_ID = b"key of the tests"
MODEL = "model-1"
PACK_BYTES = PARAMETERS.dimension * PARAMETERS.ciphertext_bytes
#: Signing keys of the three organisations.
ORGANISATIONS: dict[Party, OrganisationKey] = {party: OrganisationKey.fresh(party) for party in PARTIES}
BALLOT = Ballot(1, "ab")
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


def signers(party: Party) -> bytes:
    """Return the public signing key of an organisation of the tests."""
    return ORGANISATIONS[party].public_bytes


def signed(
    name: str, sequence: int, chain: bytes, context: str = ACCEPTANCE, ballot: Ballot = BALLOT, key_id: bytes = KEY_ID
) -> Certificate:
    """Return the certificate of this change of a gallery, signed by the pair of the ballot."""
    pair = [ORGANISATIONS[party] for party in PARTIES if party in ballot.pair]
    return Certificate.signed(Vote(sequence, chain, ballot), Scope(name, key_id), *pair, context=context)


def accept(store: Store, name: str, mutation: Mutation, ballot: Ballot = BALLOT) -> GalleryState:
    """Promise the ballot and accept the mutation under it."""
    before = store.promise(name, ballot)
    chain = next_chain(before.chain, before.sequence + 1, mutation.digest())
    return store.accept(name, mutation, signed(name, before.sequence + 1, chain, PROPOSAL, ballot), ballot)


def commit(store: Store, name: str) -> GalleryState:
    """Commit what is accepted."""
    state = store.state(name)
    assert state.accepted is not None
    return store.commit(name, signed(name, state.sequence + 1, state.accepted.chain, ballot=state.accepted.ballot))


async def change_gallery(gallery: Gallery, mutation: Mutation) -> None:
    """Let a gallery in service promise, accept and commit a mutation."""
    await gallery.promise(max(gallery.state.promised, BALLOT))
    state, key_id = gallery.state, gallery.key_id
    number, chain = state.sequence + 1, next_chain(state.chain, state.sequence + 1, mutation.digest())
    ballot = state.promised
    await gallery.accept(mutation, signed(gallery.name, number, chain, PROPOSAL, ballot, key_id), ballot)
    await gallery.commit(mutation, signed(gallery.name, number, chain, ACCEPTANCE, ballot, key_id))


def run(store: Store, name: str, mutation: Mutation) -> None:
    """Accept and commit."""
    ballot = max(store.state(name).promised, BALLOT)
    accept(store, name, mutation, ballot)
    commit(store, name)
