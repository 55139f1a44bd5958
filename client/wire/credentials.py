"""What a device shows to matchers, and which matchers it takes: its TLS files, read again when they are replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import grpc
from cryptography import x509

from veilmatch.client.endings import EndWarning
from veilmatch.common.authorities import authorities_for
from veilmatch.common.pem import certificates_of, require_pem, require_valid
from veilmatch.common.secret_file import read_secret
from veilmatch.common.settings import TlsSettings
from veilmatch.common.watched import Watched
from veilmatch.crypto.errors import ConfigurationError, VeilmatchError


@dataclass(frozen=True)
class Held:
    """What the files held when they were read."""

    authorities: tuple[x509.Certificate, ...]
    end_s: float
    certificate: bytes
    key: bytes = field(repr=False)


class Credentials:
    """The TLS files of a device, as they are in use. now: the clock, Unix time in seconds.

    Raises ConfigurationError if a file is missing or does not hold what it should, or the certificate is not valid now;
    KeyFileError if others than its owner have a right to the key.
    """

    def __init__(self, tls: TlsSettings, now: Callable[[], float] = time.time) -> None:
        self._tls = tls
        self._now = now
        self._watched = Watched([tls.authority, tls.certificate, tls.key])
        self._current = self._read()
        self._version = 1
        self._warning = EndWarning(
            f"the TLS certificate {tls.certificate}", "veilmatch authority renew, where the authority is", now
        )

    @property
    def current(self) -> Held:
        """Those in use."""
        return self._current

    def for_server(self, name: str) -> grpc.ChannelCredentials:
        """Return those in use, for a server of that name. Raises ConfigurationError if no authority may name it."""
        held = self._current
        return grpc.ssl_channel_credentials(authorities_for(held.authorities, name), held.key, held.certificate)

    def version(self) -> int:
        """Return which version is in use, after a look at the files; it grows when they were replaced.

        Files that cannot be used change nothing: they may be half of what is to come. When the certificate in use ends,
        its servers say so; the log does, once a day, from 60 days before.
        """
        if self._watched.changed():
            with suppress(VeilmatchError):
                self._current = self._read()
                self._version += 1
                self._warning.renewed()
        self._warning.look(self._current.end_s)
        return self._version

    def _read(self) -> Held:
        tls = self._tls
        try:
            authority, certificate = tls.authority.read_bytes(), tls.certificate.read_bytes()
            key = read_secret(tls.key, "the TLS key")
        except OSError as error:
            raise ConfigurationError(
                "a TLS file cannot be read", got=f"{error.filename}: {error.strerror}", expected="a PEM file"
            ) from None
        own = require_pem(tls, authority, certificate, key)
        require_valid(own, tls.certificate, self._now())
        return Held(tuple(certificates_of(authority)), own.not_valid_after_utc.timestamp(), certificate, key)
