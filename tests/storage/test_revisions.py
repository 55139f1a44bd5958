"""A database comes to the next revision whole or not at all, and never goes back."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.matcher.galleries import KEY_ID, PARAMETERS
from tests.storage import filled
from tests.storage.backends import Backend
from tests.storage.dumps import FILES, restore
from veilmatch.crypto.errors import IntegrityError
from veilmatch.server.ground import revisions
from veilmatch.server.ground.revisions import Revisions
from veilmatch.server.matcher.gallery.disk import schema
from veilmatch.server.matcher.gallery.disk.store import Store

ROOT = Path(__file__).parents[2]
#: What may come one day: a column, and every row of the largest table written anew.
NEXT = '''
"""A revision that there is not."""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0008", "0007"


def upgrade() -> None:
    op.add_column("contents", sa.Column("size", sa.Integer))
    op.execute("UPDATE contents SET size = length(body)")
    with op.batch_alter_table("contents") as table:
        table.alter_column("size", existing_type=sa.Integer, nullable=False)
'''


@pytest.fixture
def next_one(tmp_path: Path) -> Revisions:
    """The revisions of a gallery as a later version may have them."""
    folder = tmp_path / "later"
    folder.mkdir()
    (folder / "r0008_sizes.py").write_text(NEXT)
    return Revisions(revisions._SCRIPTS / "gallery", folder)


def opened(backend: Backend) -> Store:
    return Store(backend.where, KEY_ID, PARAMETERS)


def test_a_later_version_brings_it_up_and_this_one_then_refuses_it(
    backend: Backend, next_one: Revisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.fill_gallery(backend.where)
    with monkeypatch.context() as later:
        later.setattr(schema, "REVISIONS", next_one)
        filled.check_gallery(backend.where)
        with closing(opened(backend)) as store, store._database.reading() as connection:
            sizes = connection.exec_driver_sql("SELECT count(*) FROM contents WHERE size = length(body)").scalar()
            assert sizes and sizes == connection.exec_driver_sql("SELECT count(*) FROM contents").scalar()
            assert revisions.revision_in(connection) == "0008"
    with pytest.raises(IntegrityError, match="newer than this program") as caught:
        opened(backend)
    assert (caught.value.got, caught.value.expected) == ("revision 0008", f"revision {schema.REVISIONS.head} at most")
    assert "docs/storage.md" in str(caught.value.hint)
    with monkeypatch.context() as later:
        later.setattr(schema, "REVISIONS", next_one)
        opened(backend).close()


def test_a_step_that_fails_changes_nothing(
    backend: Backend, tmp_path: Path, next_one: Revisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.fill_gallery(backend.where)
    script = tmp_path / "later" / "r0008_sizes.py"
    script.write_text(NEXT + '    op.execute("SELECT nothing FROM nowhere")\n')
    with monkeypatch.context() as later, pytest.raises(IntegrityError):
        later.setattr(schema, "REVISIONS", next_one)
        opened(backend)
    filled.check_gallery(backend.where)


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_database_refuses_a_newer_one(name: str, tmp_path: Path) -> None:
    path = restore(name, tmp_path)
    check = getattr(filled, f"check_{name}")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('0099')")
    if name == "staging":  # whatever is in it can be had again
        staging = filled._staging(tmp_path)
        assert (staging.sequence, staging.counts()) == (0, (0, 0))
        staging.close()
        return
    with pytest.raises(IntegrityError, match=f"{path.name} is newer than this program") as caught:
        check(tmp_path)
    assert caught.value.got == "revision 0099"


@pytest.mark.parametrize("said", ["0000", "head", "0001; DROP TABLE log"])
def test_what_is_no_revision_is_damage(said: str, tmp_path: Path) -> None:
    path = restore("pace", tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (said,))
    with pytest.raises(IntegrityError, match="there is not"):
        filled.check_pace(tmp_path)


# -- killed in the middle --------------------------------------------------------------------------

#: In a program of its own: child n is killed before its n-th statement of bringing a database up.
KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
import alembic.migration, alembic.operations, alembic.script
from tests.storage import filled
from veilmatch.server.ground import revisions
from veilmatch.server.matcher.gallery.disk import schema

folder = Path(sys.argv[2])
if sys.argv[1] == "gallery":
    schema.REVISIONS = revisions.Revisions(revisions._SCRIPTS / "gallery", folder / "later")

def run_until(statements, data_dir):
    @event.listens_for(Engine, "before_cursor_execute")
    def count(*_):
        nonlocal statements
        statements -= 1
        if statements < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    getattr(filled, "open_" + sys.argv[1])(data_dir)
    os._exit(0)

for statements in range(int(sys.argv[3])):
    if (child := os.fork()) == 0:
        run_until(statements, folder / str(statements))
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.parametrize(("name", "statements"), [("gallery", 90), ("ledger", 40)])
def test_a_kill_before_any_statement_leaves_it_as_it_was_or_as_it_is_to_be(
    name: str, statements: int, tmp_path: Path, next_one: Revisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(statements):
        restore(name, tmp_path / str(number))
    command = [sys.executable, "-c", KILLED, name, str(tmp_path), str(statements)]
    ends = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    found = []
    for number, end in enumerate(ends):
        folder = tmp_path / str(number)
        with closing(sqlite3.connect(folder / FILES[name])) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
            revision = None
            if "alembic_version" in tables:
                ((revision,),) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            if name == "gallery":
                columns = {row[1] for row in connection.execute("PRAGMA table_info(contents)")}
                assert ("size" in columns) == (revision == "0008")
                rotating = {row[1] for row in connection.execute("PRAGMA table_info(identity)")} >= {"rotating"}
                assert rotating == (revision == "0008")
        found.append((int(end), revision))
        # Whatever was left is opened at the next start, and nothing is missing.
        if number % 9 == 0:
            with monkeypatch.context() as later:
                later.setattr(schema, "REVISIONS", next_one)
                getattr(filled, f"check_{name}")(folder)
    head = "0008" if name == "gallery" else Revisions.of("ledger").head
    # Killed before it was brought up, after that (a gallery is closed by statements), and not at all.
    outcomes = list(dict.fromkeys(found))
    assert (outcomes[0], outcomes[-1]) == ((signal.SIGKILL, None), (0, head)), found
    assert outcomes[1:-1] in ([], [(signal.SIGKILL, head)]), found


def test_kills_come_in_the_middle_of_a_transaction_too(backend: Backend, next_one: Revisions) -> None:
    """On whichever backend, in the last statement of a step that has written everything."""
    filled.fill_gallery(backend.where)
    child = os.fork()
    if not child:
        schema.REVISIONS = next_one
        next_one.bring_to_head = lambda connection, name: (  # type: ignore[method-assign]
            Revisions.bring_to_head(next_one, connection, name),
            os.kill(os.getpid(), signal.SIGKILL),
        )
        opened(backend)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    filled.check_gallery(backend.where)
