"""That nobody stands between two of the three: each organisation signs which seeds it has with the other two.

Calls are of TLS certificates, which are an authority's word: where all have one authority, of whoever runs that. People
compare the fresh machine, and nothing of the other two. Whoever stood between those, and was the fresh machine as well,
would be two of three towards each, and have both shares: the key. But it has another seed with either of the two, and
the keys that organisations sign with are in public.json.
"""

from __future__ import annotations

from typing import Any

from veilmatch.crypto.ceremony.session import Session
from veilmatch.crypto.digests import DIGEST_BYTES, digest
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.gallery_change import SIGNATURE_BYTES
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.ceremony.meeting import name_of
from veilmatch.server.ground.organisation import OrganisationKey, verify

_CONTEXT = "key share recovery seeds v1"


def shown(session: Session[Any], signer: OrganisationKey) -> bytes:
    """Return what is said to both peers: digests of the seeds with them, in the order of PARTIES, and a signature."""
    digests = b"".join(session.seed_digests[peer] for peer in _peers_of(session.party))
    return digests + signer.sign(_CONTEXT, _message(session.name, session.party, digests))


def require_same(session: Session[Any], peer: Party, theirs: bytes, public: PublicFile) -> None:
    """Raise IntegrityError, naming the peer, unless its organisation has signed that it has the seed that is here."""
    digests, signature = theirs[:-SIGNATURE_BYTES], theirs[-SIGNATURE_BYTES:]
    at = DIGEST_BYTES * _peers_of(peer).index(session.party)
    is_signed = len(digests) == 2 * DIGEST_BYTES and verify(
        public.signer(peer), _CONTEXT, _message(session.name, peer, digests), signature
    )
    if not is_signed or digests[at : at + DIGEST_BYTES] != session.seed_digests[peer]:
        raise IntegrityError(
            f"organisation {peer} has not signed that it has the seed that was made with {name_of(peer)}",
            party=name_of(peer),
            hint="Somebody with a certificate may stand between the two machines: find out who runs the TLS authority,"
            " and begin again over another network.",
        )


def _peers_of(party: Party) -> list[Party]:
    return [peer for peer in PARTIES if peer != party]


def _message(session: bytes, party: Party, digests: bytes) -> bytes:
    return digest("recovery seeds", session, party, digests)
