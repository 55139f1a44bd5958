"""What may be in a backup, and what never is. Whatever is not named here is neither taken nor put back.

Of a key holder's `data/` only the audit log is: its stock says which dealt randomness was used, and a copy says of some
of it that it was not. The key would be found from two uses of one triple.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.server.admission.devices import certificate_files
from veilmatch.server.admission.revoked import revoked_files
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.revoking.lists import list_files

PUBLIC = "public.json"
SHARE, CERTIFIER, ORGANISATION = "share.key", "certifier.key", "organisation.key"
GALLERIES, AUDIT = "gallery.db", "audit"
DEVICES, REVOKED = "devices", "revoked"
_FILE = r"[^./][^/]*"
_ALWAYS = (PUBLIC, ORGANISATION, "ca.pem", "tls.pem", "crl.pem")
_FOLDERS: tuple[str, ...] = (
    rf"{DEVICES}/{_FILE}\.cert", rf"({DEVICES}|{REVOKED})/[0-9a-f]+\.revoked",
    rf"{REVOKED}/[abc]+-[0-9]+-[0-9a-f]+\.list",
)  # fmt: skip
_OF_KEY_HOLDERS = ("keyholder.toml", SHARE, CERTIFIER)
_OF_MATCHERS = ("matcher.toml", GALLERIES)

#: Why something is not taken, by what it is.
_NOBODY: dict[str, str] = {
    "tls-key.pem": "it is not encrypted; `veilmatch authority renew` gives a party another one",
    "the passphrase": "it opens the sealed files beside it: keep it elsewhere",
    "data/ledger.db": "an older ledger has forgotten which requests were served: counts begin anew",
    "data/lock": "of the process that runs",
}
_NO_KEY_HOLDER: dict[str, str] = {
    "data/stock.db": "an older copy says that used randomness is fresh, and two uses reveal the key: it is dealt anew",
    "data/refresh.db, data/pace.db": "an older copy is wrong about a refresh of the shares",
    "share.key.next, share.key.old": "they are of a refresh that is not finished",
}
_NO_MATCHER: dict[str, str] = {
    "data/catching-up": "of what is being fetched: it is fetched again",
    "files of [storage], [cluster] and [rotation]": "they belong to other systems, or to a rotation that is under way",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One file. name: in a backup, and usually in the party's folder. path: where this party has it."""

    name: str
    path: Path

    @property
    def is_secret(self) -> bool:
        """Whether nobody but the owner may read it."""
        return self.name.endswith(".key")


def parts_of(settings: KeyHolderSettings | MatcherSettings, config: Path) -> list[Part]:
    """Return the files of a party that are taken as they are: all but the galleries and the audit log.

    Raises ConfigurationError if the folder of devices or of revoked recipients cannot be read.
    """
    found = fixed_parts(settings, config)
    # The daemon does not need it, so it may be elsewhere.
    found = [part for part in found if part.name != CERTIFIER or part.path.exists()]
    found += [Part(f"{DEVICES}/{path.name}", path) for path in certificate_files(settings.devices_dir)]
    for kind, folder in ((DEVICES, settings.devices_dir), (REVOKED, settings.revoked_dir)):
        found += [Part(f"{kind}/{path.name}", path) for path in revoked_files(folder)]
    # By the names that daemons give them: others have been taken in under these.
    found += [
        Part(name, path)
        for path in list_files(settings.revoked_dir)
        if is_allowed(settings.party_name, name := f"{REVOKED}/{path.name}")
    ]
    for part in found:
        if not is_allowed(settings.party_name, part.name):
            raise ConfigurationError("a file whose name no backup takes", got=str(part.path), expected="another name")
    return found


def fixed_parts(settings: KeyHolderSettings | MatcherSettings, config: Path) -> list[Part]:
    """Return the files that every party of this kind has, there or not."""
    tls = settings.tls
    found = [
        Part(settings.usual_name, config),
        Part(PUBLIC, settings.public_key),
        Part(ORGANISATION, settings.organisation_key),
        Part("ca.pem", tls.authority),
        Part("tls.pem", tls.certificate),
    ]
    if tls.crl is not None:
        found.append(Part("crl.pem", tls.crl))
    if isinstance(settings, KeyHolderSettings):
        found += [Part(SHARE, settings.key_file), Part(CERTIFIER, settings.certifier_key)]
    return found


def is_allowed(party: str, name: str) -> bool:
    """Return whether a file of this name may be in a backup of a party, keyholder-a say."""
    names: tuple[str, ...] = (*_ALWAYS, *_OF_MATCHERS)
    folders = _FOLDERS
    if party.startswith("keyholder-"):
        names, folders = (*_ALWAYS, *_OF_KEY_HOLDERS), (*_FOLDERS, rf"{AUDIT}/audit-[0-9]{{12}}\.jsonl")
    return name in names or any(re.fullmatch(pattern, name) for pattern in folders)


def left_out(settings: KeyHolderSettings | MatcherSettings) -> dict[str, str]:
    """Return what is never in a backup of this party, and why, in words."""
    return _NOBODY | (_NO_KEY_HOLDER if isinstance(settings, KeyHolderSettings) else _NO_MATCHER)
