"""A copy of the galleries from the other matchers, with this matcher's daemon stopped: `veilmatch gallery fetch`.

The same steps as in the background (`catching_up`). Who has lost its database, or put back an old one, has signed more
than it knows of. It notes that first: then it takes part in no change before it has caught up with each of the others,
and never in one about which it may have said something before (`Store.met`).

Where one organisation had two histories certified, with each of the honest two one, those decide on one of them, and
whoever gives up its own does so without the one that lied: takes nothing from it, and does not wait to meet it. What
it may have said to that one alone is what it gives up. What proves the lie it takes along from the old database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from veilmatch.crypto.errors import ConfigurationError, IntegrityError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import Party
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.check.databases import reading_galleries
from veilmatch.server.config import MatcherSettings
from veilmatch.server.matcher.agreement.lies import Proof
from veilmatch.server.matcher.follow.catching_up import BEHIND, catch_up
from veilmatch.server.matcher.follow.followed import Followed, OnDisk
from veilmatch.server.matcher.follow.standing import places_of
from veilmatch.server.matcher.gallery.disk import evidence, schema
from veilmatch.server.matcher.gallery.disk.database import is_there, place_of
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.daemon import sole_owner


@dataclass
class Fetched:
    """What became of one gallery. failed: why a matcher gave nothing. restored: it is marked as an old copy."""

    gallery: str
    key_id: bytes
    before: int
    sequence: int
    received_bytes: int
    restored: bool
    failed: dict[Party, VeilmatchError]

    @property
    def is_level(self) -> bool:
        """Whether every other matcher was asked, and there is no more than what is here."""
        return not self.failed


async def fetch(
    settings: MatcherSettings,
    *,
    restored: bool,
    told: Callable[[str], None],
    without: Party | None = None,
    proofs_from: Path | None = None,
) -> list[Fetched]:
    """Bring every gallery here up to what all others have; `told` is called with lines about it.

    restored: this database is an old copy, or new because the one before is lost. One that does not exist is taken to
    be lost. without: an organisation that has lied; with `restored` only. proofs_from: the folder of the database
    before this one, whose proofs of lies are kept here, too.

    Raises ConfigurationError if the daemon runs, or if nobody is left to ask; IntegrityError if the database before
    is damaged; GalleryMismatchError if another matcher has another history than what is here by then.
    """
    others = sorted(set(settings.peers) - {without})
    if without is not None and (not restored or without not in settings.peers or not others):
        raise ConfigurationError(
            "only who gives up its own history does without another organisation",
            got=f"without {without}", expected="--restored, and one of three organisations",
        )  # fmt: skip
    found: list[Fetched] = []
    async with stubs_of(settings) as all_stubs:
        stubs = {party: all_stubs[party] for party in others}
        for public, where, data_dir, is_new in places_of(settings):
            with ExitStack() as stack:
                stack.enter_context(sole_owner(data_dir))
                lost = restored or not is_there(where)
                key = public.public_key
                store = Store(where, key.key_id, key.parameters, rotating=is_new, party=settings.party_name)
                stack.callback(store.close)
                for name in settings.galleries:
                    state = store.open_gallery(name)
                    if lost:
                        store.mark_restored(name, others)
                    for proof in _proofs(proofs_from, name, key.key_id):
                        store.keep_proof(name, proof)
                        told(f"gallery {name}: the proof is kept that organisation {proof.party} has lied")
                    told(f"gallery {name}, key {key.key_id.hex()[:8]}: {state}")
                    gallery = Gallery(name, 0, store, OnDisk(), key.parameters.slots)
                    await gallery.load()
                    followed = Followed(gallery, store, data_dir, key.parameters, public.signer)
                    found.append(await _fetch(followed, stubs, state.sequence, lost, told))
    return found


def _proofs(folder: Path | None, name: str, key_id: bytes) -> list[Proof]:
    """Return the proofs of lies about a gallery that an earlier database of this matcher has kept."""
    if folder is None:
        return []
    if not is_there(folder):
        raise ConfigurationError("there is no database whose proofs could be taken", got=place_of(folder))
    with reading_galleries(folder) as connection:
        if connection.scalar(select(schema.identity.c.key_id)) != key_id:
            return []  # of the galleries that a rotation fills, say
        gallery = connection.execute(select(schema.galleries).where(schema.galleries.c.name == name)).one_or_none()
        return evidence.proofs(connection, gallery) if gallery is not None else []


async def _fetch(
    followed: Followed,
    stubs: dict[Party, rpc.MatcherPeerAsyncStub],
    before: int,
    lost: bool,
    told: Callable[[str], None],
) -> Fetched:
    failed: dict[Party, VeilmatchError] = {}
    received = 0
    for party, stub in stubs.items():
        try:
            taken = await catch_up(followed, stub, f"matcher-{party}")
        except UnavailableError as error:
            if error.message.endswith(BEHIND) and not error.said_by:
                told(f"matcher-{party} is behind itself, and has nothing to give")
                continue
            failed[party] = error
        except IntegrityError as error:
            failed[party] = error
        else:
            received += taken.received_bytes
            told(f"matcher-{party}: {taken.changes} changes, {taken.received_bytes / 1e6:.1f} MB")
    sequence = followed.gallery.state.sequence
    return Fetched(followed.name, followed.scope.key_id, before, sequence, received, lost, failed)


@asynccontextmanager
async def stubs_of(settings: MatcherSettings) -> AsyncIterator[dict[Party, rpc.MatcherPeerAsyncStub]]:
    """Give connections to the other matchers."""
    channels = {party: channel_to(to, f"matcher-{party}", settings.tls) for party, to in sorted(settings.peers.items())}
    try:
        yield {party: rpc.MatcherPeerStub(channel) for party, channel in channels.items()}
    finally:
        for channel in channels.values():
            await channel.close()
