"""The folder of the TLS authority: its key, what it has issued, and what it has taken back.

authority/
  ca.pem, ca-key.pem     its certificate; its key, encrypted under the passphrase
  crl.pem                its revocation list
  issued/                every certificate that it has issued, NAME-SERIAL.pem: none of them is secret
  others/                where every organisation has its own authority, those of the others: organisation-b.pem, and
                         organisation-b.crl with its revocation lists, if they were brought here
  next/                  while it is replaced, the authority that issues from now on: ca.pem, ca-key.pem, crl.pem
  for-parties/           what every party has to have now: ca.pem, the authorities that count, and crl.pem, their lists

A list that is lost is taken from a copy, the latest that there is in for-parties/ or in the folders of parties beside
this one. Without any, nothing is issued or taken back: a list that begins anew would have forgotten whom the one before
refused, and every server has seen a higher number and would not take it.

A replacement begins when next/ appears, whole, and ends when its files have taken the places of the old ones.
"""

from __future__ import annotations

import datetime
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from veilmatch.common.authorities import organisations_of
from veilmatch.common.pem import certificates_of, revocation_list_of
from veilmatch.common.secret_file import read_private
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.installation.authority import PARTY_VALIDITY, Authority
from veilmatch.server.installation.files import FOLDER_MODE, appearing, sync_folder, write_file
from veilmatch.server.installation.stretching import ScryptCost
from veilmatch.server.installation.tls.revocations import is_signed, lists_in, number_of

CERTIFICATE, KEY, LIST = "ca.pem", "ca-key.pem", "crl.pem"
_ISSUED, _NEXT, _FOR_PARTIES, _OTHERS = "issued", "next", "for-parties", "others"
_SERIAL = re.compile(r"(?:0x)?([0-9a-fA-F]{8,40})")


@dataclass(frozen=True)
class Issued:
    """A certificate that the authority has issued. revoked_at: when it was taken back."""

    name: str
    certificate: x509.Certificate
    revoked_at: datetime.datetime | None

    @property
    def serial(self) -> str:
        """Its serial number, in hex."""
        return f"{self.certificate.serial_number:040x}"


@dataclass(frozen=True)
class AuthorityFolder:
    """`authority/` of an installation. Whatever needs a key takes the passphrase, and what `Issuer` takes."""

    path: Path

    @staticmethod
    def make(
        path: Path,
        authority: Authority,
        passphrase: str,
        cost: ScryptCost,
        others: Mapping[Party, x509.Certificate] | None = None,
    ) -> AuthorityFolder:
        """Write the folder of a new authority. others: authorities of the other organisations. Raises OSError."""
        _write(path, authority, passphrase, cost)
        (path / _ISSUED).mkdir(mode=FOLDER_MODE)
        if others:
            (path / _OTHERS).mkdir(mode=FOLDER_MODE)
        for party, other in (others or {}).items():
            own = other.public_bytes(serialization.Encoding.PEM)
            write_file(path / _OTHERS / f"organisation-{party}.pem", own)
        folder = AuthorityFolder(path)
        folder._write_for_parties()
        return folder

    def remember(self, before: AuthorityFolder) -> None:
        """Keep what the same authority has issued while it was in another folder. Raises OSError."""
        for record in before._records():
            write_file(self.path / _ISSUED / record.name, record.read_bytes())

    # -- what anybody may know ----------------------------------------------------------------------

    @property
    def being_replaced(self) -> bool:
        """Whether two authorities count, and the next one issues."""
        return self._next.is_dir()

    def authorities(self) -> list[x509.Certificate]:
        """Return those that count, the one that issues last. Raises ConfigurationError if one cannot be read."""
        found = [_certificate(folder / CERTIFICATE) for folder in self._folders()]
        return list({one.public_bytes(serialization.Encoding.DER): one for one in found}.values())

    def others(self) -> list[x509.Certificate]:
        """Return the authorities of other organisations, several of one while it is replaced; none if all have one.

        Raises ConfigurationError if a file cannot be read, or names another organisation than it is called by.
        """
        found = []
        for party in PARTIES:
            path = self.path / _OTHERS / f"organisation-{party}.pem"
            if not path.exists():
                continue
            certificates = _certificates(path)
            if any(organisations_of(one) != {party} for one in certificates):
                raise ConfigurationError(
                    "not an authority of this organisation", got=str(path), expected=f"O=organisation-{party}"
                )
            found += certificates
        return found

    def bundle(self) -> bytes:
        """Return what parties trust: `authorities` and `others`, PEM."""
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in [*self.authorities(), *self.others()])

    def revocation_lists(self) -> bytes:
        """Return the lists of all that parties trust, PEM; empty if none has one yet."""
        own = [found.public_bytes(serialization.Encoding.PEM) for found in self._lists()]
        brought = [file.read_bytes() for file in sorted((self.path / _OTHERS).glob("organisation-*.crl"))]
        return b"".join(dict.fromkeys([*own, *brought]))

    def issued(self) -> list[Issued]:
        """Return what was issued, by name, the newest last.

        Raises ConfigurationError if a file cannot be read.
        """
        revoked = {
            (found.issuer, one.serial_number): one.revocation_date_utc for found in self._lists() for one in found
        }
        # Certificates know the second in which they were made; two of the same one were written one after the other.
        files = sorted(self._records(), key=lambda file: file.stat().st_mtime_ns)
        certificates = [_certificate(file) for file in files]
        found = [Issued(_name(one), one, revoked.get((one.issuer, one.serial_number))) for one in certificates]
        return sorted(found, key=lambda one: (one.name, one.certificate.not_valid_before_utc))

    def find(self, which: str) -> list[Issued]:
        """Return what a name, a serial number in hex, or a file of a certificate means.

        Raises ConfigurationError if that is nothing, or the certificate is of another authority.
        """
        issued = self.issued()
        serial = _SERIAL.fullmatch(which)
        found = [one for one in issued if one.name == which]
        found = found or [one for one in issued if serial and one.certificate.serial_number == int(serial[1], 16)]
        if not found and Path(which).is_file():
            certificate = _certificate(Path(which))
            known = [one for one in issued if one.certificate == certificate]
            found = known or [Issued(_name(certificate), certificate, None)]
        if not found:
            raise ConfigurationError(
                "no certificate of this authority", got=ascii(which[:80]), expected="a name, a serial number or a file"
            )
        return found

    # -- what takes the key -------------------------------------------------------------------------

    def open(self, passphrase: str, cost: ScryptCost) -> Authority:
        """Return the authority that issues. Raises ConfigurationError, WrongPassphraseError or KeyFileError."""
        return _open(self._folders()[-1], passphrase, cost)

    def issue(
        self, authority: Authority, name: str, *, is_server: bool, validity: datetime.timedelta = PARTY_VALIDITY
    ) -> tuple[bytes, bytes]:
        """Return certificate and key of a party, PEM, and keep the certificate. authority: as `open` gave it.

        Raises KeyFileError if it has expired, OSError.
        """
        certificate, key = authority.issue(name, is_server=is_server, validity=validity)
        serial = x509.load_pem_x509_certificate(certificate).serial_number
        (self.path / _ISSUED).mkdir(mode=FOLDER_MODE, exist_ok=True)
        write_file(self.path / _ISSUED / f"{name}-{serial:040x}.pem", certificate)
        return certificate, key

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Forget what is issued in the body if it fails: nobody has the keys then."""
        before = set(self._records())
        try:
            yield
        except BaseException:
            for record in set(self._records()) - before:
                with suppress(OSError):
                    record.unlink()
            raise

    def revoke(
        self,
        certificates: Sequence[x509.Certificate],
        passphrase: str,
        cost: ScryptCost,
        clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        """Put certificates on the lists of the authorities that have issued them.

        Raises ConfigurationError if one is of none of them, and then changes nothing; OSError; what `open` raises.
        """
        by_folder: dict[Path, list[x509.Certificate]] = {}
        authorities = {folder: _certificate(folder / CERTIFICATE) for folder in self._folders()}
        for certificate in certificates:
            issuer = next((f for f, one in authorities.items() if one.subject == certificate.issuer), None)
            if issuer is None:
                raise ConfigurationError(
                    "a certificate of another authority",
                    got=certificate.issuer.rfc4514_string(),
                    expected=" or ".join(one.subject.rfc4514_string() for one in authorities.values()),
                )
            by_folder.setdefault(issuer, []).append(certificate)
        for folder, taken_back in by_folder.items():
            authority = _open(folder, passphrase, cost)
            _take_back(authority, folder, self._last_list(folder), taken_back, clock())
        self._write_for_parties()

    def ensure_lists(self, passphrase: str, cost: ScryptCost) -> None:
        """Put back a revocation list that is lost or of before, and give an authority that has never had one the first.

        Raises ConfigurationError if one is lost and no copy is at hand, OSError, and what `open` raises.
        """
        for folder in self._folders():
            last = self._last_list(folder)
            if last is None:
                authority = _open(folder, passphrase, cost)
                _take_back(authority, folder, None, [], datetime.datetime.now(datetime.UTC))
            else:
                write_file(folder / LIST, last.public_bytes(serialization.Encoding.PEM))
        self._write_for_parties()

    def replace(self, passphrase: str, cost: ScryptCost) -> None:
        """Begin to replace the authority: a new one issues from now on, and both count until `end`.

        Raises ConfigurationError if that has begun already; what `open` raises, so that the passphrase stays one.
        """
        if self.being_replaced:
            raise ConfigurationError("the authority is being replaced already", expected="`authority replace --end`")
        authority = self.open(passphrase, cost)
        self.ensure_lists(passphrase, cost)
        with appearing(self._next) as partial:
            _write(partial, Authority.fresh(organisation=authority.organisation), passphrase, cost)
        self._write_for_parties()

    def end(self) -> None:
        """End it: the old authority counts no more. An interruption is finished by the same call.

        Raises ConfigurationError if none is being replaced, OSError.
        """
        if not self.being_replaced:
            raise ConfigurationError("the authority is not being replaced", expected="`veilmatch authority replace`")
        for name in (KEY, CERTIFICATE, LIST):
            write_file(self.path / name, (self._next / name).read_bytes(), secret=name == KEY)
        ended = self.path / f".{_NEXT}.ended"
        shutil.rmtree(ended, ignore_errors=True)
        self._next.rename(ended)
        sync_folder(self.path)
        shutil.rmtree(ended)
        self._write_for_parties()

    # -- parts --------------------------------------------------------------------------------------

    @property
    def _next(self) -> Path:
        return self.path / _NEXT

    def _records(self) -> list[Path]:
        return sorted((self.path / _ISSUED).glob("*.pem"))

    def _folders(self) -> list[Path]:
        return [self.path, self._next] if self.being_replaced else [self.path]

    def _lists(self) -> list[x509.CertificateRevocationList]:
        """Return the last list of each authority here. Raises ConfigurationError if one is lost."""
        return [found for folder in self._folders() if (found := self._last_list(folder)) is not None]

    def _last_list(self, folder: Path) -> x509.CertificateRevocationList | None:
        """Return the last list of the authority in a folder: its own, or a copy that is later.

        None if it has never had one: it has no record of what it has issued either. Raises ConfigurationError if it is
        lost, or the one in the folder is none of this authority.
        """
        authority = _certificate(folder / CERTIFICATE)
        if (folder / LIST).exists():
            own = _list(folder / LIST)
            # While the replacement ends, the next one's certificate is here before its list is.
            if not _signed(own, authority) and not self.being_replaced:
                raise ConfigurationError("the revocation list is not of this authority", got=str(folder / LIST))
        # A party's folder is NAME/ or organisation-a/NAME/, what is to be carried to one renewed/NAME/.
        copies = [folder / LIST, self._next / LIST, self.path / _FOR_PARTIES / LIST]
        copies += [*self.path.parent.glob(f"*/{LIST}"), *self.path.parent.glob(f"*/*/{LIST}")]
        found = [one for path in copies for one in lists_in(path) if _signed(one, authority)]
        if found:
            return max(found, key=number_of)
        if folder == self.path and not self._records():
            return None
        raise ConfigurationError(
            "the revocation list of the authority is lost: it says whom servers refuse, and how it is numbered",
            got=f"no {folder / LIST}",
            expected=f"{self.path / _FOR_PARTIES / LIST}: crl.pem of a daemon that has the latest",
        )

    def _write_for_parties(self) -> None:
        place = self.path / _FOR_PARTIES
        place.mkdir(mode=FOLDER_MODE, exist_ok=True)
        write_file(place / CERTIFICATE, self.bundle())
        if lists := self.revocation_lists():
            write_file(place / LIST, lists)


def _write(path: Path, authority: Authority, passphrase: str, cost: ScryptCost) -> None:
    path.mkdir(mode=FOLDER_MODE)
    write_file(path / CERTIFICATE, authority.certificate_pem())
    write_file(path / KEY, authority.key_pem(passphrase, cost), secret=True)
    write_file(path / LIST, authority.revocation_list({}, 1))


def _open(folder: Path, passphrase: str, cost: ScryptCost) -> Authority:
    try:
        certificate = (folder / CERTIFICATE).read_bytes()
        key = read_private(folder / KEY, "the authority's key")
    except OSError:
        raise ConfigurationError("not an installation with its authority", got=str(folder.parent)) from None
    return Authority.from_pem(certificate, key, passphrase, cost)


def _take_back(
    authority: Authority,
    folder: Path,
    before: x509.CertificateRevocationList | None,
    certificates: Sequence[x509.Certificate],
    at: datetime.datetime,
) -> None:
    """Write the next list: what the one before has, and these."""
    revoked, number = {one.serial_number: at for one in certificates}, 1
    if before is not None:
        revoked |= {one.serial_number: one.revocation_date_utc for one in before}
        number += number_of(before)
    write_file(folder / LIST, authority.revocation_list(revoked, number))


def _certificate(path: Path) -> x509.Certificate:
    try:
        return certificates_of(path.read_bytes())[0]
    except OSError as error:
        raise ConfigurationError("a certificate cannot be read", got=f"{path}: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError("not a certificate", got=str(path), expected="a PEM file") from None


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return certificates_of(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigurationError("certificates cannot be read", got=str(path), expected="a PEM file") from None


def _list(path: Path) -> x509.CertificateRevocationList:
    try:
        return revocation_list_of(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigurationError("the revocation list cannot be read", got=str(path), expected="a PEM file") from None


def _signed(found: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    return found.issuer == authority.subject and is_signed(found, authority)


def _name(certificate: x509.Certificate) -> str:
    return ", ".join(str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
