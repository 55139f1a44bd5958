"""One request at this matcher's key holder: what goes there, and the shares that come back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from veilmatch.common.speaking import heard_from
from veilmatch.crypto.claims import NOBODY, Others
from veilmatch.crypto.dealing import Words
from veilmatch.crypto.errors import (
    InvalidInputError,
    KnowledgeProofError,
    ProtocolError,
    RequestSignatureError,
    VersionError,
)
from veilmatch.crypto.keys.parties import Pair, Party, dealer_of, other_party, pairs_without
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.secret_access import SecretHolder
from veilmatch.crypto.versions import Feature, Hello
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.matcher.query.records import Records
from veilmatch.server.transport.limits import CHUNK_BYTES, WHOLE_CALL
from veilmatch.server.transport.links import Link, dialled
from veilmatch.server.transport.renewed import Renewal
from veilmatch.server.transport.sign_of_life import Owing, Signs
from veilmatch.server.transport.standing.ends import Calling, Renewed, ending
from veilmatch.server.transport.standing.kinds import SERVE
from veilmatch.server.transport.standing.strand import MESSAGE_BYTES, OtherEnd

#: The calling end of the link to the key holder.
ServeCalling: TypeAlias = Calling[pb.MatcherToKeyHolder, pb.KeyHolderToMatcher]
#: What one conversion may take at a key holder, generously: for time-outs only.
_CONVERSION_S = 0.2


@dataclass(frozen=True, slots=True, repr=False)
class Share(SecretHolder):
    """A share of a probe from the key holder: int64[views * D] mod 2^k, one view after the other."""

    session_id: bytes
    values: Array


@dataclass(frozen=True, slots=True, repr=False)
class TemplateShares(SecretHolder):
    """Shares of n templates, uint64[n, D].

    valid: for the device, XOR share of which of those that a device encrypted are valid, packed little-endian; of an
    enrolment unless known, of whether the probe is valid and whether it is known.
    """

    session_id: bytes
    values: Words
    valid: bytes


@dataclass(frozen=True, slots=True, repr=False)
class AnswerShare(SecretHolder):
    """This organisation's XOR shares of answer bits, packed little-endian, and of whether the probe is valid."""

    session_id: bytes
    bits: bytes
    valid: bool


@dataclass(frozen=True, slots=True, repr=False)
class SealedShare(SecretHolder):
    """What this organisation states about answer bits, with its shares of them sealed to a recipient."""

    session_id: bytes
    statement: bytes


class KeyHolderCall:
    """An open session at the key holder; use `opened`."""

    def __init__(
        self,
        link: Link[pb.KeyHolderToMatcher],
        parameters: ParameterSet,
        timeout_s: float,
        key_holder: Owing,
        *,
        is_plus: bool,
    ) -> None:
        self._link = link
        self._parameters = parameters
        self._is_plus = is_plus
        # The key holder may have to wait for its peer that long, and then it is the one to say so.
        self._timeout_s = 1.5 * timeout_s
        self._key_holder = key_holder

    async def probe_share(self, views: int = 1) -> Share:
        """Return this matcher's share of a probe of so many views."""
        message = await self._next("probe_share")
        values = _numbers(message.probe_share.exponents, "<u4")
        expected = views * self._parameters.dimension
        if message.probe_share.is_plus != self._is_plus or len(values) != expected:
            raise ProtocolError("a share that does not fit", got=len(values), expected=expected)
        if bool(np.any(values >> self._parameters.ring_bits)):
            raise ProtocolError("a share out of range", expected=f"below 2^{self._parameters.ring_bits}")
        return Share(message.probe_share.session_id, values)

    async def template_shares(self, templates: int, told: int, conversions: int = 0) -> TemplateShares:
        """Return this matcher's shares of so many templates; the device is told `told` bits, see TemplateShares.

        conversions: of so many ciphertexts, beside those of the templates.
        """
        work_s = _CONVERSION_S * (conversions + templates * self._parameters.lane_ciphertexts)
        share = (await self._next("template_share", work_s)).template_share
        count = templates * self._parameters.dimension
        if share.is_plus != self._is_plus or len(share.lanes) != 8 * count or len(share.valid_share) != -(-told // 8):
            raise ProtocolError("shares that do not fit", got=len(share.lanes), expected=8 * count)
        values = np.frombuffer(share.lanes, dtype="<u8").astype(np.uint64).reshape(templates, -1)
        return TemplateShares(share.session_id, values, share.valid_share)

    async def send_results(self, results: Sequence[bytes], wanted: NDArray[np.bool_], *, last: bool = True) -> None:
        """Send V of some packs and which of their slots are asked for, bool[packs, slots]. last: no others follow.

        The key holder begins with them at once.
        """
        step = max(1, CHUNK_BYTES // self._parameters.ciphertext_bytes)
        for start in range(0, len(results), step):
            part = results[start : start + step]
            chunk = pb.ResultsChunk(
                results=b"".join(part),
                wanted=np.packbits(wanted[start : start + step], bitorder="little").tobytes(),
                packs=len(part),
                last=last and start + step >= len(results),
            )
            sending = self._link.send(pb.MatcherToKeyHolder(results=chunk))  # type: ignore[arg-type]
            await self._key_holder.pays(sending, self._timeout_s)

    async def decision_share(self, count: int, conversions: int) -> AnswerShare:
        """Return this organisation's shares of `count` answer bits, of a session that converts so many ciphertexts."""
        share = (await self._next("decision_share", _CONVERSION_S * conversions)).decision_share
        if share.count != count or len(share.share) != -(-count // 8):
            raise ProtocolError("a decision share of the wrong size", got=share.count, expected=count)
        return AnswerShare(share.session_id, share.share, share.valid_share)

    async def sealed_share(self, count: int, conversions: int) -> SealedShare:
        """Return the same for the recipient that the request names."""
        sealed = (await self._next("sealed_share", _CONVERSION_S * conversions)).sealed_share
        if sealed.count != count or not sealed.statement:
            raise ProtocolError("a statement that does not fit", got=sealed.count, expected=count)
        return SealedShare(sealed.session_id, sealed.statement)

    async def _next(self, kind: str, work_s: float = 0.0) -> pb.KeyHolderToMatcher:
        message = await self._key_holder.says(self._link.receive(), self._timeout_s + work_s)
        if message.WhichOneof("content") != kind:
            raise ProtocolError("another answer from the key holder", got=message.WhichOneof("content"), expected=kind)
        return message


def _numbers(data: bytes, dtype: str) -> Array:
    if len(data) % np.dtype(dtype).itemsize:
        raise ProtocolError("a share that ends within a number", got=len(data))
    return np.frombuffer(data, dtype=dtype).astype(np.int64)


@asynccontextmanager
async def opened(
    stub: rpc.KeyHolderAsyncStub,
    party: Party,
    pair: Pair,
    request: request_pb2.SignedRequest,
    state: GalleryState,
    records: Records,
    parameters: ParameterSet,
    signs: Signs,
    *,
    is_plus: bool,
    timeout_s: float,
    output_bits: int = 0,
    labels_digest: bytes = b"",
    calling: ServeCalling | None = None,
    needs: Sequence[Feature] = (),
) -> AsyncIterator[KeyHolderCall]:
    """Open a session for this request and gallery state.

    records: for verify, erase and rotate. output_bits: most answer bits that will be asked for; the key holder counts
    them before it begins and refuses results that ask for more. labels_digest: of the subjects that are compared, for
    the statement to a recipient. calling: the link that verifications go over; others have a stream of their own.
    needs: what the request takes. A key holder that lacks it refuses the request for what it takes for a mistake, or
    does not read the certificate of a device that may ask for it, and then a VersionError is raised in that place.
    """
    # The subject's name and its salt stay here.
    forwarded = request_pb2.SignedRequest(
        body=request.body,
        signature=request.signature,
        ciphertexts=request.ciphertexts,
        recipient_certificate=request.recipient_certificate,
        card=request.card,
    )
    first = pb.OpenSession(
        request=forwarded,
        sequence=state.sequence,
        chain=state.chain,
        record=records.ciphertexts,
        by_device=np.packbits(records.by_device, bitorder="little").tobytes(),
        output_bits=output_bits,
        labels_digest=labels_digest,
    )
    message = pb.MatcherToKeyHolder(open=first)
    others = _others_of(party, pair)
    key_holder = Owing.with_signs(f"keyholder-{party}", pairs_without(party), signs)
    if calling is not None and message.ByteSize() <= MESSAGE_BYTES:
        connected: AbstractAsyncContextManager[Any] = _on_link(calling, message, others)
        theirs: Callable[[], Hello] = partial(_spoken_on, calling)
    else:
        call = stub.Serve(timeout=WHOLE_CALL * timeout_s)
        connected = dialled(call, message, key_holder.name, key_holder.alternatives, others)
        theirs = partial(heard_from, call)
    try:
        async with AsyncExitStack() as stack:
            # A stopped process still accepts connections, and then says nothing.
            link = await key_holder.pays(stack.enter_async_context(connected), timeout_s)
            # It carries two message types, one in each direction; the link is typed by what comes back.
            yield KeyHolderCall(link, parameters, timeout_s, key_holder, is_plus=is_plus)
    except (InvalidInputError, KnowledgeProofError, ProtocolError, RequestSignatureError):
        if missing := [feature for feature in needs if not theirs().has(feature)]:
            raise VersionError(
                f"{key_holder.name} has to be updated before this request can be served",
                got=f"{key_holder.name} without {', '.join(missing)}",
                expected=", ".join(needs),
                party=key_holder.name,
                alternatives=key_holder.alternatives,
            ) from None
        raise


def calling(party: Party, stub: rpc.KeyHolderAsyncStub, renewed: Renewed = Renewal) -> ServeCalling:
    """Return the calling end of the link to the key holder of this matcher's organisation. renewed: see Calling."""
    # Whom the key holder may name is a matter of the pair, and said for each session.
    other = OtherEnd(f"keyholder-{party}", pairs_without(party), NOBODY)
    return Calling(SERVE, f"matcher-{party}", other, stub.ServeMany, renewed)


def _spoken_on(calling: ServeCalling) -> Hello:
    return calling.link().theirs()


@asynccontextmanager
async def _on_link(calling: ServeCalling, first: pb.MatcherToKeyHolder, others: Others) -> AsyncIterator[Any]:
    link = calling.link()
    strand = link.open(first, others)
    async with ending(strand):
        if not link.stands:
            await link.standing()
        yield strand


def _others_of(party: Party, pair: Pair) -> Others:
    """Return whom the key holder may name to its matcher: its peer, of their dealer and the other matcher no more than
    that they are missing."""
    other = other_party(pair, party)
    return Others(partners=(f"keyholder-{other}",), suppliers=(f"keyholder-{dealer_of(pair)}", f"matcher-{other}"))
