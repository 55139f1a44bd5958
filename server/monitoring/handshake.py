"""TLS of the listener for metrics: with its files as they are now, and for clients that are named and not revoked."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Collection
from typing import Any

import structlog

from veilmatch.common.pem import certificate_in
from veilmatch.common.watched import Watched
from veilmatch.crypto.errors import ConfigurationError, VeilmatchError
from veilmatch.server.monitoring.settings import MetricsTls
from veilmatch.server.transport.tls_files import TlsFiles, names_of

_log = structlog.get_logger(__name__)


class Handshake:
    """Any thread may use it. clients: common names that are served. Raises what `TlsFiles.read` raises."""

    def __init__(self, tls: MetricsTls, clients: Collection[str]) -> None:
        self._tls, self._clients = tls, frozenset(clients)
        self._watched = Watched([tls.authority, tls.certificate, tls.key, *([tls.crl] if tls.crl else [])])
        self._looking = threading.Lock()
        self._files, self._context = self._read()
        #: Whether the files that are there now cannot be used, and whether that was said.
        self._is_wrong, self._is_said = False, False

    def wrap(self, connection: Any) -> ssl.SSLSocket:
        """Return a connection on which nothing was said yet."""
        return self._current().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def serves(self, connection: ssl.SSLSocket) -> bool:
        """Whether the other end has shown the certificate of a client that is served."""
        shown = connection.getpeercert(binary_form=True)
        if shown is None:
            return False
        try:
            certificate = certificate_in(shown)
        except ValueError:
            return False
        names = names_of(certificate)
        # One name, as everywhere: of several nobody says which one the authority has looked at.
        return len(names) == 1 and names[0] in self._clients and not self._files.revocations.has(certificate)

    def _current(self) -> ssl.SSLContext:
        """Look at the files again, if they were replaced. One thread at a time: a disk that hangs holds up no other."""
        if self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()
        return self._context

    def _look(self) -> None:
        if not self._watched.changed() and not self._is_wrong:
            return
        try:
            files, context = self._read()
            if self._tls.crl is not None:
                files.revocations.require_not_before(self._files.revocations, self._tls.crl, files.trusted)
        except VeilmatchError as error:
            self._say(error)
        else:
            self._files, self._context = files, context
            self._is_wrong = self._is_said = False

    def _read(self) -> tuple[TlsFiles, ssl.SSLContext]:
        files = TlsFiles.read(self._tls, crl=self._tls.crl)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(cadata=files.authority.decode())
            context.load_cert_chain(self._tls.certificate, self._tls.key)
        except (OSError, ValueError) as error:  # replaced meanwhile
            raise ConfigurationError(
                "a TLS file of [metrics] cannot be used", got=f"{self._tls.certificate}: {type(error).__name__}",
                expected="PEM files that fit",
            ) from None  # fmt: skip
        return files, context

    def _say(self, error: VeilmatchError) -> None:
        """Say it the second time: files are replaced one after the other."""
        if self._is_wrong and not self._is_said:
            self._is_said = True
            _log.error("alert", code=error.code, reason=f"the TLS files of [metrics] cannot be used: {error}")
        self._is_wrong = True
