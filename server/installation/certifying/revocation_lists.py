"""Revoking for all servers: an organisation signs a list, and servers give it each other. docs/certificates.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, DeviceCertificateError, RevocationListError
from veilmatch.crypto.keys.device_certificate import DeviceCertificate, check_device_name
from veilmatch.crypto.keys.revocation_list import ID_BYTES, RevocationList, Statement
from veilmatch.crypto.keys.signed_by_two import SERIAL_BYTES
from veilmatch.server.admission.certification import check_signatures
from veilmatch.server.admission.devices import SUFFIX, certificate_files, certificate_path, read_certificate
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.certifying.certifier_file import unseal_certifier
from veilmatch.server.installation.files import FOLDER_MODE, write_file
from veilmatch.server.revoking import lists as of_lists

#: By how much another organisation's number may be ahead for its list to be signed as it is: numbers never run out.
_AHEAD = 100
_READ_AGAIN = 5


def device_ids(which: str, settings: KeyHolderSettings) -> dict[bytes, DeviceCertificate | None]:
    """Return the ids of a device's certificates, and these, where they are here.

    which: the file NAME.cert; the name of a device, whose certificate this key holder has; the serial number of such a
    certificate, 32 hex digits; or the id of any, 64 hex digits. Raises ConfigurationError if there is none,
    DeviceCertificateError if the file is no certificate of this installation.
    """
    if is_id(which):
        return {bytes.fromhex(which): None}
    if re.fullmatch(rf"[0-9a-fA-F]{{{2 * SERIAL_BYTES}}}", which):
        serial = bytes.fromhex(which)
        found = [one for one in _readable(settings.devices_dir) if one.statement.serial == serial]
    else:
        path = Path(which)
        if path.suffix != SUFFIX:
            path = certificate_path(settings.devices_dir, check_device_name(which))
        found = [read_certificate(path)] if path.exists() else []
    if not found:
        raise ConfigurationError("no such certificate of a device is here", got=ascii(which[:70]))
    public = read_public_file(settings.public_key)
    for one in found:
        check_signatures(one, public)
    return {one.statement.id: one for one in found}


def is_id(which: str) -> bool:
    """Return whether this is the id of a certificate, 64 hex digits."""
    return re.fullmatch(rf"[0-9a-fA-F]{{{2 * ID_BYTES}}}", which) is not None


def sign_revocation(certificates: Iterable[bytes], settings: KeyHolderSettings, passphrase: str) -> RevocationList:
    """Sign a list with these certificates and all that the organisation has revoked before, and keep it.

    It goes into the folder of the key holder, whose daemon gives it to all servers. Where another organisation has
    signed just this list, that one is signed too. Returns the list; that of before, if it has them all.
    Raises what `unseal_certifier` raises; RevocationListError if there are too many; ConfigurationError if the list
    cannot be written.
    """
    public = read_public_file(settings.public_key)
    party, folder = settings.party, settings.revoked_dir
    held = held_lists(folder, public)
    own = of_lists.signed_by(held, party)
    wanted = tuple(sorted(of_lists.named_by(held, party) | set(certificates)))
    last = max((one.statement.number for one in own), default=0)
    for one in own:
        if (one.statement.number, one.statement.certificates) == (last, wanted):
            return one
    others = [
        one.statement
        for one in held
        if one.statement.certificates == wanted and last < one.statement.number <= last + _AHEAD
    ]
    statement = others[0] if others else Statement(public.installation, last + 1, wanted)
    made = RevocationList(statement)
    for one in held:
        if one.statement == statement:
            for signature in one.signatures:
                made = made.with_signature(*signature)
    made = unseal_certifier(settings.certifier_key, party, public, passphrase).sign_list(made)
    path = folder / of_lists.file_name(made)
    try:
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        write_file(path, made.encode())
    except OSError as error:
        raise ConfigurationError("the revocation list cannot be written", got=f"{path}: {error.strerror}") from None
    return made


def held_lists(folder: Path, public: PublicFile) -> list[RevocationList]:
    """Return the lists in a folder that organisations have signed; other files say nothing here."""
    for _ in range(_READ_AGAIN):
        found, gone = [], False
        for path in of_lists.list_files(folder):
            try:
                one = of_lists.read_list(path)
                of_lists.check_signatures(one, public)
            except RevocationListError:
                gone |= not path.exists()  # the daemon has put a later one in its place
            else:
                found.append(one)
        if not gone:
            return found
    raise ConfigurationError("the revocation lists change all the time", got=str(folder), expected="try again")


def _readable(folder: Path) -> list[DeviceCertificate]:
    found = []
    for path in certificate_files(folder):
        try:
            found.append(read_certificate(path))
        except DeviceCertificateError:
            continue
    return found
