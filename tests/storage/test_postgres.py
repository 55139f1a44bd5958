"""Galleries on a server: who may write, what a kill costs, what is refused, and that no password is shown."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.matcher.galleries import KEY_ID, PARAMETERS, Model, accept, commit, mutation, run
from tests.matcher.gallery.test_store_kill import survives_kills
from tests.storage.backends import database_of
from tests.storage.postgres import ROLE, PostgresServer
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, KeyFileError, MissingExtraError, StorageError
from veilmatch.server.config import MatcherSettings, StorageSettings
from veilmatch.server.ground.own_failures import Self, own_failures
from veilmatch.server.matcher.gallery.disk.backends import postgres as backend
from veilmatch.server.matcher.gallery.disk.store import Store

ENROL = mutation(1, added=[(0, 0, "ada"), (0, 1, "bela")])
MORE = mutation(2, added=[(0, 2, "cid")])
#: A session of the server that writes.
WRITER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_LOCK_WAIT_S", 1.0)
    monkeypatch.setattr(backend, "_LOCK_AGAIN_S", 0.5)


@pytest.fixture
def where(postgres: PostgresServer) -> StorageSettings:
    return postgres.new_database()


@pytest.fixture
def store(where: StorageSettings) -> Iterator[Store]:
    made = opened(where)
    yield made
    made.close()


def opened(where: StorageSettings) -> Store:
    store = Store(where, KEY_ID, PARAMETERS, party="matcher-a")
    store.open_gallery("staff")
    return store


def holds(store: Store, *committed: object) -> None:
    expected = Model("staff")
    for one in committed:
        expected.commit(one)  # type: ignore[arg-type]
    expected.check(store)


# -- one writer ------------------------------------------------------------------------------------


def test_a_second_daemon_is_refused_in_words_and_the_first_goes_on(store: Store, where: StorageSettings) -> None:
    run(store, "staff", ENROL)
    with pytest.raises(ConfigurationError, match="another daemon uses the gallery database") as caught:
        opened(where)
    assert re.search(rf"{database_of(where)}: session \d+ of the server", str(caught.value.got))
    assert "a database of its own" in str(caught.value.hint)
    run(store, "staff", MORE)
    holds(store, ENROL, MORE)


def test_the_next_daemon_writes_when_the_first_has_gone(where: StorageSettings) -> None:
    with closing(opened(where)) as store:
        run(store, "staff", ENROL)
    with closing(opened(where)) as store:
        run(store, "staff", MORE)
        holds(store, ENROL, MORE)


def test_who_has_lost_its_session_to_another_daemon_writes_nothing(
    store: Store, where: StorageSettings, postgres: PostgresServer
) -> None:
    run(store, "staff", ENROL)
    postgres.execute(f"SELECT pg_terminate_backend(pid) FROM ({WRITER}) AS w", database_of(where))
    with closing(opened(where)) as other:
        with pytest.raises(StorageError, match="taken the gallery database over"):
            run(store, "staff", MORE)
        holds(other, ENROL)
        run(other, "staff", MORE)
    # The other one is gone: nobody else writes, so this one may again.
    run(store, "staff", mutation(3, added=[(0, 3, "dora")]))


def test_nobody_else_has_a_function_run_as_the_matcher(where: StorageSettings, postgres: PostgresServer) -> None:
    """An exact match of what is asked goes before the server's own function, whose number is a larger one."""
    name = database_of(where)
    trojan = (
        "CREATE FUNCTION public.pg_try_advisory_lock(integer) RETURNS boolean LANGUAGE plpgsql AS"
        " $$BEGIN GRANT SELECT ON ALL TABLES IN SCHEMA public TO stranger; RETURN true; END$$"
    )
    with closing(opened(where)) as store:
        run(store, "staff", ENROL)
    postgres.execute("CREATE ROLE stranger")
    postgres.execute("GRANT CREATE ON SCHEMA public TO PUBLIC", name)
    postgres.execute(f"SET ROLE stranger; {trojan}", name)
    with pytest.raises(ConfigurationError, match="anybody may make functions") as caught:
        opened(where)
    assert caught.value.got == "CREATE on schema public for PUBLIC"
    reads = "DO $$BEGIN ASSERT NOT has_table_privilege('stranger', 'templates', 'SELECT'); END$$"
    postgres.execute(reads, name)
    postgres.execute("DROP FUNCTION public.pg_try_advisory_lock(integer)", name)
    postgres.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", name)
    with closing(opened(where)) as store:
        holds(store, ENROL)
    postgres.execute("DROP ROLE stranger")


def test_the_environment_does_not_say_where_the_server_is(
    where: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOSTADDR", "203.0.113.5")
    with pytest.raises(ConfigurationError, match="the environment says where PostgreSQL is") as caught:
        opened(where)
    assert caught.value.got == "PGHOSTADDR"


# -- connections that are lost ---------------------------------------------------------------------


def test_a_session_that_ended_between_two_calls_costs_nothing(store: Store, postgres: PostgresServer) -> None:
    run(store, "staff", ENROL)
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'veilmatch'")
    run(store, "staff", MORE)
    holds(store, ENROL, MORE)


def test_a_server_that_was_killed_has_lost_nothing_and_is_connected_to_again(
    store: Store, postgres: PostgresServer
) -> None:
    run(store, "staff", ENROL)
    accept(store, "staff", MORE)
    postgres.kill()
    try:
        for call in (lambda: commit(store, "staff"), lambda: store.state("staff"), lambda: list(store.packs("staff"))):
            with pytest.raises(StorageError, match="cannot be read or written") as caught, own_failures(MATCHER):
                call()
            assert (caught.value.party, caught.value.alternatives) == ("matcher-a", ("bc",))
    finally:
        postgres.start()
    assert store.accepted("staff")[0].body == MORE.body
    commit(store, "staff")
    holds(store, ENROL, MORE)


def test_nothing_acknowledged_is_lost_when_the_server_is_killed_at_any_moment(
    where: StorageSettings, postgres: PostgresServer
) -> None:
    survives_kills(where, postgres)


MATCHER = Self("matcher-a", ("bc",))


def test_a_server_that_goes_in_the_middle_of_a_change_leaves_none_of_it(store: Store, postgres: PostgresServer) -> None:
    run(store, "staff", ENROL)
    accept(store, "staff", MORE)
    with pytest.raises(StorageError), store._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM templates")
        postgres.kill()
        postgres.start()
        connection.exec_driver_sql("DELETE FROM packs")
    holds(store, ENROL)
    commit(store, "staff")
    holds(store, ENROL, MORE)


# -- what a server has to be ------------------------------------------------------------------------


def test_a_server_that_does_not_write_through_is_refused(where: StorageSettings, postgres: PostgresServer) -> None:
    postgres.execute("ALTER SYSTEM SET fsync = off")
    postgres.execute("SELECT pg_reload_conf()")
    try:
        with pytest.raises(ConfigurationError, match="not set up for it") as caught:
            for _ in range(100):  # until the sessions have read it
                opened(where).close()
        assert (caught.value.got, caught.value.expected) == ("fsync = off", "fsync = on")
    finally:
        postgres.execute("ALTER SYSTEM RESET fsync")
        postgres.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("role_has", ["off", "local"])
def test_no_commit_returns_before_it_is_on_disk_whatever_the_role_is_set_to(
    where: StorageSettings, postgres: PostgresServer, role_has: str
) -> None:
    postgres.execute(f"ALTER ROLE {ROLE} IN DATABASE {database_of(where)} SET synchronous_commit = {role_has}")
    with closing(opened(where)) as store, store._database.writing() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


def test_a_database_with_anything_else_in_it_is_refused_and_left_as_it_is(
    where: StorageSettings, postgres: PostgresServer
) -> None:
    postgres.execute("CREATE TABLE recipes (name TEXT)", database_of(where))
    with pytest.raises(IntegrityError, match="not a gallery database"):
        opened(where)
    postgres.execute("DROP TABLE recipes", database_of(where))
    opened(where).close()


def test_without_the_driver_the_extra_is_named(where: StorageSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match="postgres"):
        opened(where)


def test_errors_quote_no_statement_and_no_value(store: Store, where: StorageSettings, postgres: PostgresServer) -> None:
    postgres.execute("ALTER TABLE templates ADD CHECK (subject <> 'cid')", database_of(where))
    with pytest.raises(IntegrityError) as caught:
        run(store, "staff", MORE)
    assert str(caught.value) == "the gallery database is damaged (got PostgreSQL: CheckViolation (23514))"
    assert caught.value.__suppress_context__


# -- passwords --------------------------------------------------------------------------------------


def test_a_password_is_in_no_error_log_or_repr(
    postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    right, wrong = postgres.new_database(), tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("not the password")
    with closing(opened(right)) as store:
        shown = [repr(right), str(right), right.model_dump_json(), repr(store._database._engine)]  # type: ignore[attr-defined]
    with pytest.raises(StorageError) as caught:
        opened(right.model_copy(update={"password_file": wrong}))
    shown += [*traceback.format_exception(caught.value), caplog.text]
    assert not any(postgres.password in one or "not the password" in one for one in shown)


def test_a_password_file_that_others_may_read_is_refused(postgres: PostgresServer, tmp_path: Path) -> None:
    open_to_all = tmp_path / "password"
    open_to_all.write_text(postgres.password)
    open_to_all.chmod(0o640)
    where = postgres.new_database().model_copy(update={"password_file": open_to_all})
    with pytest.raises(KeyFileError, match="open to others"):
        opened(where)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        opened(where.model_copy(update={"password_file": tmp_path / "none"}))


FIELDS = (
    'listen = "h:1"\ndata_dir = "d"\ndevices_dir = "devices"\npublic_key = "p"\nparty = "a"\nkey_holder = "h:2"\n'
    '[tls]\nauthority = "a"\ncertificate = "c"\nkey = "k"\n[peers]\nb = "h:3"\nc = "h:4"\n'
)


def configured(folder: Path, url: str) -> StorageSettings:
    path = folder / "matcher.toml"
    path.write_text(f'{FIELDS}[storage]\nurl = "{url}"\npassword_file = "pg-password"\n')
    storage = MatcherSettings.load(path).storage
    assert storage is not None
    return storage


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://veilmatch:hunter2@localhost/veilmatch", "no password"),
        ("postgresql://veilmatch@localhost/veilmatch?password=hunter2", "no password"),
        ("postgresql://veilmatch@db.example/veilmatch", "sslmode=verify-full"),
        ("postgresql://veilmatch@db.example/veilmatch?sslmode=require", "sslmode=verify-full"),
        ("postgresql://veilmatch@/veilmatch?host=/run/pg,db.example", "sslmode=verify-full"),
        ("postgresql://veilmatch@localhost/veilmatch?hostaddr=203.0.113.5", "sslmode=verify-full"),
        ("postgresql://veilmatch@/veilmatch?host=db.example&host=localhost", "each field once"),
        ("postgresql://veilmatch@db.example/veilmatch?sslmode=disable&sslmode=verify-full", "each field once"),
        ("postgresql://veilmatch@localhost/veilmatch?service=elsewhere", "each field once"),
        ("mysql://hunter2@localhost/veilmatch", "postgresql://USER@HOST/DATABASE"),
        ("postgresql://hunter2@localhost", "postgresql://USER@HOST/DATABASE"),
    ],
)
def test_an_url_that_is_not_safe_is_refused_without_being_shown(url: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        configured(tmp_path, url)
    assert "storage.url" in str(caught.value) and "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://veilmatch@localhost/veilmatch",
        "postgresql://veilmatch@/veilmatch?host=/run/postgresql",
        "postgresql:///veilmatch",
        "postgresql://veilmatch@db.example:5433/veilmatch?sslmode=verify-full&sslrootcert=/etc/ca.pem",
    ],
)
def test_the_password_file_is_beside_the_configuration(url: str, tmp_path: Path) -> None:
    assert configured(tmp_path, url) == StorageSettings(url=url, password_file=tmp_path / "pg-password")
