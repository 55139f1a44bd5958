"""The revocation lists that a server holds, and which certificates they revoke: those that two organisations name.

    lists = RevocationLists(settings.revoked_dir, public)
    lists.has(certificate.statement.id)       # at every request: a look into a set
    lists.take_in(found)                      # from another server: kept on disk before it counts
    lists.look()                              # what operators have put into the folder meanwhile

Nothing that two organisations have taken back comes back. A list gives way only to a later one of the same
organisation that names all it names, so an older one changes nothing, and where an organisation has signed lists that
contradict each other all of them count, with an alert. How many of those are held is bounded.

A file is named by what is in it and never changed, so a daemon and a command never write the same one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import RevocationListError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.keys.revocation_list import MAX_BYTES, RevocationList
from veilmatch.crypto.keys.signed_by_two import SIGNATURES_NEEDED
from veilmatch.server.installation.files import FOLDER_MODE, write_file

SUFFIX = ".list"
#: Lists of one organisation that are held beside each other. An honest one has one.
MAX_APART = 4

_log = structlog.get_logger(__name__)


class RevocationLists:
    """See the module. Any thread may call it; only `has`, `lists` and the numbers do without the disk.

    folder: of the files, NAME.list each; other files in it are not looked at. public: names the installation and the
    organisations' keys.
    """

    def __init__(self, folder: Path, public: PublicFile) -> None:
        self._folder = folder
        self._public = public
        self._lock = threading.Lock()
        self._held: dict[bytes, RevocationList] = {}
        self._revoked: frozenset[bytes] = frozenset()
        self._by_one: frozenset[bytes] = frozenset()
        #: Files that were looked at, as they were then, and contradictions that were said.
        self._read: dict[str, tuple[int, ...] | None] = {}
        self._said: set[tuple[object, ...]] = set()
        #: Files whose lists have given way to others.
        self._outdated: set[str] = set()
        self._is_writable = True
        self.look()

    @property
    def held(self) -> Mapping[bytes, RevocationList]:
        """Those that are held, by their ids; another mapping when they are others."""
        return self._held

    @property
    def lists(self) -> tuple[RevocationList, ...]:
        """Those that are held."""
        return tuple(self._held.values())

    @property
    def count(self) -> int:
        """How many certificates two organisations have revoked."""
        return len(self._revoked)

    @property
    def count_by_one(self) -> int:
        """How many certificates only one organisation has revoked: they are served."""
        return len(self._by_one)

    def numbers(self) -> dict[Party, int]:
        """Return the highest number that each organisation has signed; 0 if there is no list of it."""
        return {party: max((x.statement.number for x in signed_by(self.lists, party)), default=0) for party in PARTIES}

    def has(self, certificate: bytes) -> bool:
        """Return whether two organisations have revoked a certificate, of which this is the id."""
        return certificate in self._revoked

    def take_in(self, found: RevocationList) -> bool:
        """Take in a list, from wherever it comes; return whether it says anything new.

        It is on disk when this returns, if the disk takes it; it counts either way. Raises RevocationListError if it is
        of another installation, if a signature is not that of its organisation, or if an organisation has signed more
        lists that contradict each other than are kept.
        """
        check_signatures(found, self._public)
        with self._lock:
            is_new = self._hold(found)
            self._store()
        if is_new:
            signed, number = ", ".join(found.organisations), found.statement.number
            _log.info("revocation list taken in", signed=signed, number=number, revoked=len(self._revoked))
        return is_new

    def look(self) -> bool:
        """Take in what is new in the folder, and put back what is gone from it; return whether anything was new."""
        is_new = False
        before, self._read = self._read, {path.name: _mark(path) for path in list_files(self._folder)}
        for name in [name for name, mark in self._read.items() if name not in before or before[name] != mark]:
            path = self._folder / name
            try:
                is_new |= self.take_in(read_list(path))
            except RevocationListError as error:
                _log.error("alert", code=error.code, reason=f"a file revokes nobody: {error}", file=str(path))
                if name in map(file_name, self.lists):
                    # Damaged: it is written anew.
                    with suppress(OSError):
                        path.unlink()
        with self._lock:
            self._store()
        return is_new

    def _hold(self, found: RevocationList) -> bool:
        if found.id in self._held:
            return False
        beside = [*self._held.values(), found]
        latest = [one for one in beside if any(_is_latest(one, party, beside) for party in one.organisations)]
        if found not in latest:
            self._outdated.add(file_name(found))
            return False
        if all(_is_full(party, latest) for party in found.organisations):
            raise RevocationListError(
                "an organisation has signed too many revocation lists that contradict each other",
                got=", ".join(found.organisations), expected=f"{MAX_APART} at most",
            )  # fmt: skip
        self._outdated |= {file_name(one) for one in beside if one not in latest}
        self._held = {one.id: one for one in latest}
        self._revoked = revoked_by_two(latest)
        self._by_one = frozenset(_by_how_many(latest).keys() - self._revoked)
        for party in found.organisations:
            self._say_contradiction(party, [one for one in latest if _is_latest(one, party, latest)])
        return True

    def _say_contradiction(self, party: Party, apart: Sequence[RevocationList]) -> None:
        """Say that an organisation has signed lists of which none has all that the others have."""
        numbers = tuple(sorted(one.statement.number for one in apart))
        if len(apart) < 2 or (party, *numbers) in self._said:
            return
        self._said.add((party, *numbers))
        same = len(set(numbers)) < len(numbers)
        reason = (
            "two revocation lists with one number" if same else "a later revocation list that takes back an earlier one"
        )
        _log.error(
            "alert", code=RevocationListError.code, reason=f"organisation {party} has signed {reason}: both count",
            organisation=party, numbers=list(numbers),
        )  # fmt: skip

    def _store(self) -> None:
        """Have exactly the lists that are held in the folder, later ones before earlier ones go."""
        wanted = {file_name(one): one for one in self._held.values()}
        try:
            there = {path.name for path in list_files(self._folder)}
            for name in wanted.keys() - there:
                self._folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
                write_file(self._folder / name, wanted[name].encode())
            for name in self._outdated & there:
                (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            if self._is_writable:
                _log.error("alert", code=RevocationListError.code, folder=str(self._folder),
                           reason=f"a revocation list is not kept on disk: {error.strerror}")  # fmt: skip
            self._is_writable = False
        else:
            self._is_writable = True
            self._outdated.clear()


def readings(lists: RevocationLists) -> dict[str, dict[tuple[str, ...], float]]:
    """Return what metrics tell of the lists that a server holds."""
    return {
        "revocation_list_number": {(party,): float(number) for party, number in lists.numbers().items()},
        "revoked_certificates": {(): float(lists.count)},
        "half_revoked_certificates": {(): float(lists.count_by_one)},
    }


# -- what lists say --------------------------------------------------------------------------------


def revoked_by_two(lists: Iterable[RevocationList]) -> frozenset[bytes]:
    """Return the ids of the certificates that two organisations name, be it in one list or in two."""
    return frozenset(id_ for id_, count in _by_how_many(lists).items() if count >= SIGNATURES_NEEDED)


def _by_how_many(lists: Iterable[RevocationList]) -> dict[bytes, int]:
    """Return how many organisations name a certificate, by its id, be it in one list or in several."""
    named: dict[bytes, set[Party]] = {}
    for one in lists:
        for certificate in one.statement.certificates:
            named.setdefault(certificate, set()).update(one.organisations)
    return {id_: len(by) for id_, by in named.items()}


def signed_by(lists: Iterable[RevocationList], party: Party) -> list[RevocationList]:
    """Return the lists that an organisation has signed."""
    return [one for one in lists if party in one.organisations]


def named_by(lists: Iterable[RevocationList], party: Party) -> set[bytes]:
    """Return the ids of the certificates that an organisation has taken back."""
    return {id_ for one in signed_by(lists, party) for id_ in one.statement.certificates}


def check_signatures(found: RevocationList, public: PublicFile) -> None:
    """Raise RevocationListError if it is another installation's, nobody signed it, or a signature is not right."""
    said = found.statement
    if said.installation != public.installation:
        raise RevocationListError(
            "the revocation list is of another installation",
            got=said.installation.hex(), expected=public.installation.hex(),
        )  # fmt: skip
    if not found.signatures:
        raise RevocationListError("nobody has signed the revocation list", expected="at least one organisation")
    for party, signature in found.signatures:
        try:
            key = Ed25519PublicKey.from_public_bytes(public.organisation(party))
            key.verify(signature, said.signed_bytes())
        except (InvalidSignature, ValueError):
            raise RevocationListError(
                "a signature of the revocation list is not that of its organisation, or the list was altered", got=party
            ) from None


def _is_latest(one: RevocationList, party: Party, beside: Iterable[RevocationList]) -> bool:
    """Return whether an organisation has signed this list, and none of the others in its place."""
    return party in one.organisations and not any(
        party in other.organisations and _replaces(other, one) for other in beside
    )


def _replaces(later: RevocationList, earlier: RevocationList) -> bool:
    """Return whether one list says all that another one says, for whoever has signed both."""
    said, before = later.statement, earlier.statement
    if said == before:
        # The same list with other signatures: one of them is kept.
        return (len(later.signatures), later.id) > (len(earlier.signatures), earlier.id)
    return said.number > before.number and set(said.certificates) >= set(before.certificates)


def _is_full(party: Party, lists: Sequence[RevocationList]) -> bool:
    return sum(_is_latest(one, party, lists) for one in lists) > MAX_APART


# -- files -----------------------------------------------------------------------------------------


def file_name(found: RevocationList) -> str:
    """Return the name of the file of a list: by whom, which one, and what tells it from all others."""
    return f"{''.join(found.organisations)}-{found.statement.number}-{found.id.hex()[:32]}{SUFFIX}"


def list_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are named as lists are; none if it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
    except OSError:
        return []


def _mark(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_list(path: Path) -> RevocationList:
    """Return the list in a file; its signatures are not verified here. Raises RevocationListError."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise RevocationListError("a revocation list is a file", got=str(path))
        with path.open("rb") as file:
            return RevocationList.decode(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise RevocationListError("a revocation list cannot be read", got=f"{path}: {error.strerror}") from None
