"""Which revision each database of a daemon has, and which one this code knows. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from veilmatch.crypto.errors import StorageError, VeilmatchError
from veilmatch.server.check.databases import reading
from veilmatch.server.config import GalleriesIn, KeyHolderSettings, MatcherSettings
from veilmatch.server.ground.database import typed
from veilmatch.server.ground.revisions import Kind, Revisions, revision_in
from veilmatch.server.matcher.follow.staging_file import FOLDER
from veilmatch.server.matcher.gallery.disk.backends.sqlite import FILE_NAME, require_certified
from veilmatch.server.matcher.gallery.disk.database import is_there, open_beside, place_of

#: What is to be done: nothing; the next start of the daemon does it; it is made at the next start; see `why`.
State = Literal["current", "earlier", "not there yet", "refused"]
_KEY_HOLDER: tuple[Kind, ...] = ("ledger", "stock", "pace", "refresh")


@dataclass(frozen=True)
class Found:
    """One database. place: of a file, or on a server. revision: None if it is not there, or from before there were
    any. why: this code refuses it, in words."""

    place: str
    state: State
    revision: str | None
    known: str
    why: str = ""

    def document(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return asdict(self)


def revisions_of(settings: KeyHolderSettings | MatcherSettings) -> list[Found]:
    """Look at every database of a daemon, which may run; those that a rotation is filling are among them."""
    return list(_found(settings))


def _found(settings: KeyHolderSettings | MatcherSettings) -> Iterator[Found]:
    if isinstance(settings, KeyHolderSettings):
        for kind in _KEY_HOLDER:
            yield _of_file(settings.data_dir / f"{kind}.db", kind)
        return
    yield _of_galleries(settings.galleries_in)
    yield _of_file(settings.data_dir / "ledger.db", "ledger")
    places = [settings.data_dir]
    if settings.rotation is not None:
        yield _of_galleries(settings.rotation.galleries_in)
        places.append(settings.rotation.data_dir)
    for data_dir in places:
        for path in sorted((data_dir / FOLDER).glob("*.db")):
            yield _of_file(path, "staging")


def _of_file(path: Path, kind: Kind) -> Found:
    revisions = Revisions.of(kind)
    if not path.exists():
        return Found(str(path), "not there yet", None, revisions.head)
    return _of_database(str(path), path.name, revisions, lambda: _reading_file(path))


def _of_galleries(where: GalleriesIn) -> Found:
    revisions, place = Revisions.of("gallery"), place_of(where)
    try:
        if not is_there(where):
            return Found(place, "not there yet", None, revisions.head)
    except VeilmatchError as error:
        return Found(place, "refused", None, revisions.head, error.claim)
    if isinstance(where, Path):
        return _of_database(place, FILE_NAME, revisions, lambda: _reading_gallery_file(where / FILE_NAME))
    return _of_database(place, "the database", revisions, lambda: _reading_server(where))


def _of_database(
    place: str, name: str, revisions: Revisions, opened: Callable[[], AbstractContextManager[Connection]]
) -> Found:
    revision = None
    try:
        with opened() as connection:
            revision = revision_in(connection)
            is_at_head = revisions.is_at_head(connection, name)
    except VeilmatchError as error:
        return Found(place, "refused", revision, revisions.head, error.claim)
    return Found(place, "current" if is_at_head else "earlier", revision, revisions.head)


@contextmanager
def _reading_file(path: Path) -> Iterator[Connection]:
    try:
        with reading(path) as connection:
            yield connection
    except DBAPIError as error:
        raise typed(error, path.name) or StorageError(f"{path.name} cannot be read") from None


@contextmanager
def _reading_gallery_file(path: Path) -> Iterator[Connection]:
    with _reading_file(path) as connection:
        require_certified(connection)
        yield connection


@contextmanager
def _reading_server(where: GalleriesIn) -> Iterator[Connection]:
    database = open_beside(where)
    try:
        with database.reading() as connection:
            yield connection
    finally:
        database.close()
