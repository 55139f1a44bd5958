"""What `veilmatch up` looks at before it starts anything: what would end a daemon at once, found without one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.errors import ConfigurationError, VeilmatchError
from veilmatch.server.config import DaemonTls, KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.organisation_file import unseal_organisation
from veilmatch.server.installation.passphrase import read_passphrase
from veilmatch.server.installation.plan import config_of
from veilmatch.server.installation.sealed import open_sealed
from veilmatch.server.supervisor import daemons_of, load_daemon
from veilmatch.server.transport.daemon import sole_owner
from veilmatch.server.transport.tls_files import TlsFiles

_S = TypeVar("_S")
_T = TypeVar("_T")


def check_places(directory: Path) -> dict[str, KeyHolderSettings | MatcherSettings]:
    """Return the settings of every party of an installation. Raises what it would end with, naming the party.

    Checked: configurations, TLS files, and that no other daemon has the data directories or the addresses. Nothing of
    that takes a passphrase.
    """
    settings = {party: _of(party, load_daemon, config_of(directory, party)) for party in daemons_of(directory)}
    with ExitStack() as stack:
        for party, one in settings.items():
            _of(party, partial(_read_tls, party), one.tls)
            _of(party, lambda path: stack.enter_context(sole_owner(path)), one.data_dir)
            stack.enter_context(_of(party, _listening, one.listen))
            if one.metrics is not None:
                stack.enter_context(_of(party, _listening, one.metrics.listen))
    return settings


def check_keys(settings: Mapping[str, KeyHolderSettings | MatcherSettings], passphrase: str) -> None:
    """Raise what a daemon would end with, naming it, unless the passphrase opens its keys."""
    for party, one in settings.items():
        _of(party, lambda daemon: _open(daemon, passphrase), one)


def _of(party: str, check: Callable[[_S], _T], subject: _S) -> _T:
    """Return what the check returns; what it raises is about this party."""
    try:
        return check(subject)
    except VeilmatchError as error:
        fields = error.fields() | {"message": f"{party} cannot start: {error.message}", "party": party}
        raise VeilmatchError.from_fields(fields) from None


def _read_tls(party: str, tls: DaemonTls) -> TlsFiles:
    return TlsFiles.read(tls, party, tls.crl)


def _open(settings: KeyHolderSettings | MatcherSettings, passphrase: str) -> None:
    """Open the keys as the daemon will: its configured file goes before the passphrase of this command."""
    if settings.passphrase_file is not None:
        passphrase = read_passphrase(settings.passphrase_file)
    public = read_public_file(settings.public_key)
    if isinstance(settings, KeyHolderSettings):
        open_sealed(settings.key_file, settings.party, public, passphrase)
    unseal_organisation(settings.organisation_key, settings.party, public, passphrase)


def _listening(address: str) -> socket.socket:
    """Return a socket that listens there. Raises ConfigurationError if it cannot be had."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as stack:
            found = stack.enter_context(socket.socket(family, kind, protocol))
            # As gRPC does: what is left of closed connections is no hindrance.
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(place)
            found.listen(1)
            stack.pop_all()
            return found
    except OSError as error:
        raise ConfigurationError(
            "cannot listen", got=f"{address}: {error.strerror}", expected="a free address of this machine"
        ) from None
