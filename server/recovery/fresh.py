"""The folder of a fresh machine that takes the place of a lost key holder, made where its organisation has the rest.

All of it but the share: from the organisation's matcher what both its daemons have, a new TLS key of its authority, and
a configuration. The share, and the keys of its storage, come with the recovery (recovering.py).
"""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.errors import ConfigurationError, KeyMismatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.certifying.certifier_file import require_sealed_certifier
from veilmatch.server.installation.files import FOLDER_MODE, appearing, write_file
from veilmatch.server.installation.layout import check_free
from veilmatch.server.installation.organisation_file import require_sealed_organisation
from veilmatch.server.installation.plan import (
    DAEMON_TLS,
    DEVICES_DIR,
    METRICS_PORTS,
    PORTS,
    REVOKED_DIR,
    Plan,
    key_holder_fields,
)
from veilmatch.server.installation.stretching import ScryptCost
from veilmatch.server.installation.tls.renewing import renew
from veilmatch.server.installation.toml import to_toml
from veilmatch.server.recovery.fingerprint import fingerprint_of
from veilmatch.server.transport.tls_files import TlsFiles

_CONFIG = KeyHolderSettings.usual_name


@dataclass(frozen=True)
class Fresh:
    """What was made. missing: what this folder lacks, in words, and what follows."""

    party_name: str
    folder: Path
    fingerprint: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Sources:
    """Where a fresh folder comes from.

    installation: directory with the organisation's TLS authority and public.json. matcher: matcher.toml of its matcher.
    config: keyholder.toml of before, if there is a copy; then `listen` and `peers` may be empty, and are those of
    before. listen: where the fresh machine listens; unless said, where the matcher looks for its key holder. peers:
    addresses of the other two key holders, by letter. certifier_key: a copy of the sealed file, if there is one.
    """

    installation: Path
    matcher: Path
    config: Path | None = None
    listen: str = ""
    peers: Mapping[str, str] | None = None
    certifier_key: Path | None = None


def make_fresh(folder: Path, sources: Sources, passphrase: str, cost: ScryptCost | None = None) -> Fresh:
    """Make the folder; it appears complete or not at all. passphrase: of the authority. cost: if it is not the usual.

    Raises ConfigurationError if the folder is not empty, a source is missing or of another organisation, or peers are
    not told; KeyMismatchError if the matcher is of another installation than the authority; KeyFileError if a sealed
    file is not what it should be; what `renew` raises.
    """
    check_free(folder)
    matcher = MatcherSettings.load(sources.matcher)
    party, public = matcher.party, read_public_file(matcher.public_key)
    if read_public_file(sources.installation / "public.json").encode() != public.encode():
        raise KeyMismatchError(
            "the matcher and the authority are of different installations", got=str(sources.matcher),
            expected=f"of the installation of {sources.installation}",
        )  # fmt: skip
    require_sealed_organisation(matcher.organisation_key, party, public)
    fields = _fields(party, matcher, sources)
    with appearing(folder) as partial:
        partial.mkdir(mode=FOLDER_MODE)
        with tempfile.TemporaryDirectory(prefix=".tls.", dir=partial.parent) as scratch:
            (made,) = renew(sources.installation, [f"keyholder-{party}"], passphrase, Path(scratch), cost=cost)
            for name in (DAEMON_TLS["certificate"], DAEMON_TLS["key"]):
                (made.folder / name).rename(partial / name)
        # What the matcher trusts, and whom not: an authority knows its own list alone.
        write_file(partial / DAEMON_TLS["authority"], matcher.tls.authority.read_bytes())
        if matcher.tls.crl is not None:
            write_file(partial / DAEMON_TLS["crl"], matcher.tls.crl.read_bytes())
        write_file(partial / "public.json", public.encode())
        write_file(partial / "organisation.key", matcher.organisation_key.read_bytes(), secret=True)
        for name, source in ((DEVICES_DIR, matcher.devices_dir), (REVOKED_DIR, matcher.revoked_dir)):
            shutil.copytree(source, partial / name)
        (partial / "data").mkdir(mode=FOLDER_MODE)
        if sources.certifier_key is not None:
            require_sealed_certifier(sources.certifier_key, party, public)
            write_file(partial / "certifier.key", sources.certifier_key.read_bytes(), secret=True)
        write_file(partial / _CONFIG, to_toml(fields).encode())
        settings = KeyHolderSettings.load(partial / _CONFIG)
        own = TlsFiles.read(settings.tls, settings.party_name, settings.tls.crl).own
    missing: tuple[str, ...] = ("share.key: it comes with the recovery",)
    if sources.certifier_key is None:
        missing += (f"certifier.key: organisation {party} certifies no device until a copy is put there",)
    return Fresh(settings.party_name, folder, fingerprint_of(own), missing)


def _fields(party: Party, matcher: MatcherSettings, sources: Sources) -> dict[str, Any]:
    """Return the content of keyholder.toml: that of before, if there is one, with the usual names of files."""
    usual = key_holder_fields(party, Plan())
    before: dict[str, Any] = {}
    if sources.config is not None:
        if KeyHolderSettings.load(sources.config).party != party:
            raise ConfigurationError(
                "the configuration of another organisation's key holder", got=str(sources.config),
                expected=f"keyholder.toml of keyholder-{party}",
            )  # fmt: skip
        before = tomllib.loads(sources.config.read_text())
    peers = dict(sources.peers or before.get("peers", {}))
    if set(peers) != set(PARTIES) - {party}:
        raise ConfigurationError(
            "where are the other key holders?", got=", ".join(sorted(peers)) or "none",
            expected="--peer keyholder-X=HOST:PORT for both, or --config with the keyholder.toml of before",
        )  # fmt: skip
    listen = sources.listen or before.get("listen") or matcher.key_holder
    files = (
        "data_dir", "public_key", "organisation_key", "devices_dir", "revoked_dir", "key_file", "certifier_key", "tls",
    )  # fmt: skip
    # Where the matcher knows of one other alone, the third organisation only deals.
    only = {"dealer_only": next(iter(set(PARTIES) - {party, *matcher.peers}))} if len(matcher.peers) == 1 else {}
    metrics = {"metrics": {"listen": _metrics(party, listen)}}
    return usual | metrics | only | before | {name: usual[name] for name in files} | {"listen": listen, "peers": peers}


def _metrics(party: Party, listen: str) -> str:
    """Return where it answers scrapes: as far above its port as in a new installation."""
    port = int(listen.rpartition(":")[2]) + METRICS_PORTS[f"keyholder-{party}"] - PORTS[f"keyholder-{party}"]
    return f"127.0.0.1:{port}"
