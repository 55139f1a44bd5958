"""What a daemon shows where it listens, and whom it serves: both follow its files, without a restart.

    identity = Identity(settings.tls, settings.party_name, crl=settings.tls.crl)
    server.add_secure_port(listen, identity.server_credentials())

Certificate, key, authorities and revocation list are looked at every LOOK_S and on SIGHUP, and read again when one of
them was replaced. A handshake that begins after that goes by the new ones. Files that do not go together, or a list
that is older than the one in use, change nothing: the old ones go on, and an alert says why.

gRPC knows no revocation lists, and looks at a certificate when a connection begins, once. So each call is looked at
here: of a certificate that has been revoked or has ended since, whose authority is not trusted any more, or which is in
the name of a server whose organisation has another authority, none is served. Nor is one whose name gRPC gives as
another than the certificate has: it gives the first one of several, and a name up to its first NUL. Calls under way end
if the certificate that they began with is revoked or not trusted any more; whoever has only been renewed goes on.

What cannot be done: gRPC does not tell the calling side which certificate a server has shown. A revoked certificate of
a server is refused where it calls, and still believed where it is called, until its authority is replaced
(docs/certificates.md).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog
from cryptography import x509

from veilmatch.common.authorities import behind
from veilmatch.common.pem import certificates_of, date
from veilmatch.common.settings import TlsSettings
from veilmatch.common.watched import LOOK_S, Watched
from veilmatch.crypto.errors import PartyRefusedError, UnavailableError, VeilmatchError
from veilmatch.server.transport.channels import Context
from veilmatch.server.transport.tls_files import TlsFiles, names_of

#: Certificates of callers that are kept, judged; there are fewer, unless somebody plays.
_KNOWN = 4096

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """A caller's certificate. end_s: Unix time, excluded. refused: why it is not served, None if it is.

    by: the organisations whose authority says so, by letter; "" if its authority is common to all.
    """

    name: str
    end_s: float
    refused: str | None
    by: str = ""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a caller has shown, as gRPC gives it: its name, its certificate and those between, in PEM."""

    names: tuple[bytes, ...]
    certificates: tuple[bytes, ...]


class Identity:
    """The TLS files of one daemon, as they are in use. crl: its revocation list, if it has one.

    Raises what `TlsFiles.read` raises.
    """

    def __init__(
        self, tls: TlsSettings, party_name: str, crl: Path | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._tls, self._party_name, self._crl, self._now = tls, party_name, crl, now
        self._watched = Watched([tls.authority, tls.certificate, tls.key, *([crl] if crl else [])])
        self._reading = threading.Lock()
        self._files = TlsFiles.read(tls, party_name, crl)
        #: What is wrong with the files that are there now, and whether it was said.
        self._wrong: tuple[str, bool] | None = None
        #: By what a caller has shown; forgotten when the files change.
        self._seen: dict[_Shown, Seen] = {}
        self._calls: dict[asyncio.Timeout, _Shown] = {}

    # -- where it listens ---------------------------------------------------------------------------

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that ask every caller for a certificate; for one port."""
        offered = self._files

        def offer() -> grpc.ServerCertificateConfiguration | None:
            nonlocal offered
            if offered is self._files:
                return None
            offered = self._files
            return offered.server_configuration()

        # None: as before. The types of gRPC leave that out.
        return grpc.dynamic_ssl_server_credentials(
            offered.server_configuration(),
            offer,  # type: ignore[arg-type]
            require_client_authentication=True,
        )

    # -- who is served ------------------------------------------------------------------------------

    @asynccontextmanager
    async def serving(self, context: Context) -> AsyncIterator[None]:
        """Hold a call. Raises PartyRefusedError if the caller's certificate was revoked, has ended, or is of nobody
        trusted now; UnavailableError out of the body if it is revoked or not trusted any more meanwhile: whoever has
        been renewed may have such calls still, and asks again.
        """
        shown = _shown(context)
        self._require(self._judged(shown))
        try:
            async with asyncio.timeout(None) as limit:
                self._calls[limit] = shown
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            seen = self._judged(shown)
            raise UnavailableError(
                f"a call of {seen.name[:60]} was ended: of its certificate, {seen.refused}",
                party=seen.name[:60], needed="another call, with a renewed certificate", available=seen.refused,
            ) from None  # fmt: skip
        finally:
            del self._calls[limit]
            # It leads to the call's task, which keeps this frame if it was cancelled here.
            del limit

    def named_by(self, context: Context) -> str:
        """Return whose authority has named the caller, by letter; "" if that authority is common to all."""
        return self._judged(_shown(context)).by

    def _require(self, seen: Seen) -> None:
        refused = seen.refused
        if refused is None and seen.end_s <= self._now():
            refused = f"it ended on {date(seen.end_s)}"
        if refused is not None:
            raise PartyRefusedError(
                f"the certificate of {seen.name[:60]} is not good any more", got=refused, expected="a renewed one"
            )

    def _judged(self, shown: _Shown) -> Seen:
        seen, files = self._seen.get(shown), self._files
        if seen is None:
            seen = _judge(shown, files)
            if len(self._seen) >= _KNOWN:
                self._seen.clear()
            self._seen[shown] = seen
        return seen

    # -- following the files ------------------------------------------------------------------------

    async def follow(self) -> None:
        """Read the files again whenever they change, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self, *, at_once: bool = False) -> None:
        """Read the files again if they have changed. at_once: they may have a moment ago."""
        if await asyncio.to_thread(self._reread, at_once):
            self._end_refused()

    def _reread(self, at_once: bool) -> bool:
        """Return whether other files are in use now."""
        with self._reading:
            changed = self._watched.changed(at_once=at_once)
            if not changed and (self._wrong is None or self._wrong[1]):
                return False
            before = self._files
            try:
                files = TlsFiles.read(self._tls, self._party_name, self._crl)
                if self._crl is not None:
                    files.revocations.require_not_before(before.revocations, self._crl, files.trusted)
            except VeilmatchError as error:
                self._say_wrong(error, changed)
                return False
            self._wrong = None
            if files == before:
                return False
            self._files = files
            self._seen = {}
        _log.info(
            "TLS files read again", certificate=files.own != before.own, authority=files.trusted != before.trusted,
            revocations=files.revocations != before.revocations, ends=date(files.own.not_valid_after_utc.timestamp()),
            revoked=sum(map(len, files.revocations.serials.values())),
        )  # fmt: skip
        return True

    def _say_wrong(self, error: VeilmatchError, changed: bool) -> None:
        """Say it at the second look: files are replaced one after the other."""
        text = str(error)
        if changed and (self._wrong is None or self._wrong[0] != text):
            self._wrong = text, False
        elif self._wrong is not None and not self._wrong[1]:
            self._wrong = text, True
            _log.error(
                "alert", code=error.code, reason=f"the TLS files cannot be used, and those of before go on: {text}"
            )

    def _end_refused(self) -> None:
        loop = asyncio.get_running_loop()
        for limit, shown in list(self._calls.items()):
            if self._judged(shown).refused is not None:
                limit.reschedule(loop.time())


def _shown(context: Context) -> _Shown:
    known = context.auth_context()
    names, *certificates = (
        tuple(map(bytes, known.get(name) or ()))
        for name in ("x509_common_name", "x509_pem_cert", "x509_pem_cert_chain")
    )
    return _Shown(names, sum(certificates, ()))


def _judge(shown: _Shown, files: TlsFiles) -> Seen:
    try:
        chain = [one for part in shown.certificates for one in certificates_of(part)]
        if chain:
            name = ", ".join(names_of(chain[0]))
            organisations = sorted({by for root in files.roots(chain) for by in behind(root, files.trusted)})
            end_s = chain[0].not_valid_after_utc.timestamp()
            return Seen(name, end_s, _refused(shown, chain, files), "".join(organisations))
    except ValueError:
        pass
    return Seen("the caller", 0.0, "it cannot be read")


def _refused(shown: _Shown, chain: list[x509.Certificate], files: TlsFiles) -> str | None:
    # Whom it may name is asked about the names in it, and who calls is told by what gRPC says.
    if tuple(one.encode() for one in names_of(chain[0])) != shown.names:
        return "it has several names, or one that is not read alike everywhere"
    if any(files.revocations.has(one, chain) for one in chain):
        return "it was revoked"
    if not files.roots(chain):
        return "its authority is not trusted any more"
    return None if files.trusts(chain) else "its authority is another organisation's"
