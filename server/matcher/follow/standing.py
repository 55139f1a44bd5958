"""How the matchers of an installation stand: what each states of its galleries, and who is behind. For operators.

The matcher that asks is not asked itself: its database says it, whether its daemon runs or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select

from veilmatch.common.output import error_document
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.check.databases import reading_galleries
from veilmatch.server.config import GalleriesIn, MatcherSettings
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.certificates import Scope, Signers
from veilmatch.server.matcher.follow.following import read_statement, watch
from veilmatch.server.matcher.gallery.disk import evidence, schema
from veilmatch.server.matcher.gallery.disk.database import is_there, place_of
from veilmatch.server.matcher.gallery.disk.rows import state_of
from veilmatch.server.transport.channels import channel_to

#: Exit status: all level; two chains under one number; not reached, or behind; proof of a lie is kept here.
LEVEL, PARTED, BEHIND, LIED = 0, 5, 6, 7


@dataclass(frozen=True, slots=True)
class Stated:
    """What one matcher states of one gallery.

    says_lied: organisations of which it says that it keeps a proof that they lied: its word, as it shows none. proven:
    those of which such a proof is in the database here. unmet: whom it has still to meet, if it was restored.
    """

    state: GalleryState
    says_lied: Sequence[Party] = ()
    restored: bool = False
    proven: Sequence[Party] = ()
    unmet: Sequence[Party] = ()


@dataclass
class Standing:
    """One gallery at all matchers that are known here. stated: what each states, or why that is not known."""

    gallery: str
    key_id: bytes
    stated: dict[Party, Stated | VeilmatchError] = field(default_factory=dict)

    @property
    def known(self) -> dict[Party, Stated]:
        """The statements that are known."""
        return {party: stated for party, stated in self.stated.items() if isinstance(stated, Stated)}

    def behind(self, party: Party) -> int:
        """Return by how many changes a matcher is behind the first one."""
        known = self.known
        return max(one.state.sequence for one in known.values()) - known[party].state.sequence

    @property
    def is_parted(self) -> bool:
        """Whether two of them have different histories, as far as the same numbers show it."""
        ends = {(one.state.sequence, one.state.chain) for one in self.known.values()}
        return len(ends) != len({sequence for sequence, _ in ends})

    @property
    def status(self) -> int:
        """The exit status that it stands for. What another matcher only says of an organisation does not change it."""
        if any(one.proven for one in self.known.values()):
            return LIED
        if self.is_parted:
            return PARTED
        is_level = len(self.known) == len(self.stated) and not any(
            self.behind(party) or one.restored for party, one in self.known.items()
        )
        return LEVEL if is_level else BEHIND

    @property
    def verdict(self) -> str:
        """The same in words: what an operator has to know first."""
        match self.status:
            case status if status == LIED:
                liars = sorted({liar for one in self.known.values() for liar in one.proven})
                return f"a proof is kept here that organisation {' and '.join(liars)} has LIED"
            case status if status == PARTED:
                return "PARTED: two changes under one number"
            case status if status == LEVEL:
                return "all are level"
        lost = [party for party, one in sorted(self.stated.items()) if isinstance(one, VeilmatchError)]
        late = [party for party in sorted(self.known) if self.behind(party)]
        out = [party for party, one in sorted(self.known.items()) if one.restored]
        said = ((lost, "not reached"), (late, "behind"), (out, "restored, and not back yet"))
        return "; ".join(f"{' and '.join(f'matcher-{one}' for one in which)} {what}" for which, what in said if which)

    def document(self) -> dict[str, Any]:
        """Return it for `--json`."""
        matchers: dict[str, Any] = {}
        for party, one in sorted(self.stated.items()):
            if isinstance(one, VeilmatchError):
                matchers[party] = {"error": error_document(one)}
                continue
            accepted = one.state.accepted
            matchers[party] = {
                "sequence": one.state.sequence,
                "chain": one.state.chain.hex(),
                "behind": self.behind(party),
                "open": accepted.chain.hex() if accepted is not None else None,
                "restored": one.restored,
                "unmet": list(one.unmet),
                "accused": list(one.proven),
                "says_lied": list(one.says_lied),
            }
        return {
            "gallery": self.gallery, "key_id": self.key_id.hex(), "status": self.status, "verdict": self.verdict,
            "parted": self.is_parted, "matchers": matchers,
        }  # fmt: skip


class Place(NamedTuple):
    """Where galleries under one key lie. public: whose signing keys vouch for them, too. data_dir: beside them."""

    public: PublicFile
    galleries: GalleriesIn
    data_dir: Path
    is_new: bool


def places_of(settings: MatcherSettings) -> Iterator[Place]:
    """Yield where the galleries of this matcher lie, and then those that a rotation is filling."""
    yield Place(read_public_file(settings.public_key), settings.galleries_in, settings.data_dir, is_new=False)
    if settings.rotation is not None:
        rotation = settings.rotation
        public = read_public_file(rotation.public_key)
        yield Place(public, rotation.galleries_in, rotation.data_dir, is_new=True)


async def stand(settings: MatcherSettings) -> list[Standing]:
    """Ask all matchers; return how each gallery stands, those that a rotation is filling last."""
    found: dict[tuple[str, bytes], Standing] = {}
    signers: dict[bytes, Signers] = {}
    for public, where, _, _ in places_of(settings):
        key_id = public.public_key.key_id
        signers[key_id] = public.signer
        for name in settings.galleries:
            found[name, key_id] = Standing(name, key_id, {settings.party: _own(where, name, key_id)})
    answers = await asyncio.gather(
        *(_ask(party, address, settings, signers, list(found)) for party, address in sorted(settings.peers.items()))
    )
    for party, answer in zip(sorted(settings.peers), answers, strict=True):
        for key, standing in found.items():
            standing.stated[party] = answer if isinstance(answer, VeilmatchError) else answer[key]
    return list(found.values())


def worst(standings: Sequence[Standing]) -> int:
    """Return the exit status for all of them: proof of a lie first, then parted galleries, then who is missing."""
    found = {standing.status for standing in standings}
    return next((status for status in (LIED, PARTED, BEHIND) if status in found), LEVEL)


def _own(where: GalleriesIn, name: str, key_id: bytes) -> Stated | VeilmatchError:
    """Return what the database here says; nothing is written to it."""
    try:
        if not is_there(where):
            return UnavailableError("this matcher has no database yet", needed=place_of(where))
        with reading_galleries(where) as connection:
            if connection.scalar(select(schema.identity.c.key_id)) != key_id:
                raise ConfigurationError("the database is of another key", got=place_of(where))
            gallery = connection.execute(select(schema.galleries).where(schema.galleries.c.name == name)).one_or_none()
            if gallery is None:
                return UnavailableError("this matcher has not opened the gallery yet", needed=name)
            accused = sorted({proof.party for proof in evidence.proofs(connection, gallery)})
            unmet = sorted(evidence.unmet(gallery))
            return Stated(state_of(gallery), restored=bool(unmet), proven=accused, unmet=unmet)
    except VeilmatchError as error:
        return error


async def _ask(
    party: Party,
    address: str,
    settings: MatcherSettings,
    signers: Mapping[bytes, Signers],
    keys: Sequence[tuple[str, bytes]],
) -> Mapping[tuple[str, bytes], Stated | VeilmatchError] | VeilmatchError:
    """Return what a matcher states first of each gallery."""
    name, found = f"matcher-{party}", dict[tuple[str, bytes], Stated | VeilmatchError]()
    absent = UnavailableError(f"{name} does not hold this gallery", party=name, needed=name)
    channel = channel_to(address, name, settings.tls)
    try:
        wanted = [pb.WatchedGallery(gallery=gallery, key_id=key_id) for gallery, key_id in keys]
        async for news in watch(rpc.MatcherPeerStub(channel), name, wanted, settings.peer_timeout_s):
            key = news.gallery.gallery, news.gallery.key_id
            if key not in keys or key in found:
                break  # it has begun anew: no other gallery is there
            try:
                state = read_statement(Scope(*key), signers[key[1]], party, news).state
                # One that lies may send any text.
                says_lied, unmet = ([one for one in PARTIES if one in names] for names in (news.accused, news.unmet))
                found[key] = Stated(state, says_lied, news.restored, unmet=unmet)
            except IntegrityError as error:
                found[key] = error
            if len(found) == len(keys):
                break
    except UnavailableError as error:
        if not found:
            return error
    except VeilmatchError as error:
        return error
    finally:
        await channel.close()
    return {key: found.get(key, absent) for key in keys}
