"""The configuration files: every field checked, the environment on top, and no value in an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from veilmatch.client.config import DeviceSettings
from veilmatch.common import known_fields
from veilmatch.common.hints import hint
from veilmatch.common.toml_file import read_toml
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.server.ceremony.settings import CeremonySettings
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.toml import to_toml

Settings = KeyHolderSettings | MatcherSettings | DeviceSettings
TLS = {"authority": "ca.pem", "certificate": "tls.pem", "key": "tls-key.pem"}
FIELDS: dict[type[Settings], dict[str, Any]] = {
    KeyHolderSettings: {
        "party": "a", "listen": "127.0.0.1:7411", "data_dir": "data", "public_key": "public.json",
        "key_file": "share.key", "peers": {"b": "b.example:7412", "c": "[::1]:7413"}, "tls": TLS,
        "devices_dir": "devices",
    },
    MatcherSettings: {
        "party": "b", "listen": "0.0.0.0:7402", "data_dir": "data", "public_key": "public.json",
        "key_holder": "b.example:7412", "peers": {"a": "a.example:7401", "c": "c.example:7403"},
        "devices_dir": "devices", "tls": TLS,
    },
    DeviceSettings: {
        "device": "device-1", "public_key": "public.json", "signing_key": "signing.key",
        "matchers": {"a": "a.example:7401", "b": "b.example:7402", "c": "c.example:7403"}, "tls": TLS,
    },
}  # fmt: skip
KINDS = list(FIELDS)


def load(kind: type[Settings], folder: Path, **changes: Any) -> Any:
    fields = {name: value for name, value in (FIELDS[kind] | changes).items() if value is not None}
    (folder / "x.toml").write_text(to_toml(fields))
    return kind.load(folder / "x.toml")


def refused(kind: type[Settings], folder: Path, **changes: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(kind, folder, **changes)
    assert caught.value.__cause__ is None
    return str(caught.value)


# -- what is loaded --------------------------------------------------------------------------------


def test_a_key_holder_has_these_defaults(tmp_path: Path) -> None:
    settings = load(KeyHolderSettings, tmp_path)
    assert settings.party_name == "keyholder-a"
    assert settings.passphrase_file is None
    assert (settings.workers, settings.stock_triples) == (0, 10240)
    assert (settings.stock_bytes, settings.stock_products) == (8388608, 1048576)
    assert settings.refresh_interval_s == 600
    assert (settings.max_clock_skew_s, settings.max_request_lifetime_s, settings.peer_timeout_s) == (30, 120, 5)
    assert settings.peers == FIELDS[KeyHolderSettings]["peers"]
    assert settings.certifier_key == tmp_path / "certifier.key"


def test_a_matcher_has_these_defaults(tmp_path: Path) -> None:
    settings = load(MatcherSettings, tmp_path)
    assert settings.party_name == "matcher-b"
    assert (settings.galleries, settings.workers, settings.max_bulk_bytes) == (["main"], 0, 1 << 28)
    assert (settings.all_bulk_bytes, settings.max_bulk_s) == (1 << 29, 900)
    assert (settings.max_clock_skew_s, settings.max_request_lifetime_s, settings.peer_timeout_s) == (30, 120, 5)


def test_a_device_has_these_defaults(tmp_path: Path) -> None:
    settings = load(DeviceSettings, tmp_path)
    assert (settings.gallery, settings.threshold, settings.pairs) == ("main", 0.40, ["ab", "ac", "bc"])
    assert (settings.timeout_s, settings.request_lifetime_s, settings.certificate) == (15, 60, None)
    assert load(DeviceSettings, tmp_path, certificate="door.cert").certificate == tmp_path / "door.cert"


@pytest.mark.parametrize("kind", KINDS)
def test_settings_do_not_change(kind: type[Settings], tmp_path: Path) -> None:
    settings = load(kind, tmp_path)
    for model in (settings, settings.tls):
        with pytest.raises(ValueError, match="frozen"):
            setattr(model, next(iter(type(model).model_fields)), "x")


# -- paths -----------------------------------------------------------------------------------------


def paths(model: BaseModel) -> dict[str, Path]:
    found = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            found |= paths(value)
        elif isinstance(value, Path):
            found[name] = value
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_relative_paths_are_those_of_the_files_folder(
    kind: type[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    load(kind, tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    settings = kind.load(Path("there/x.toml"))
    monkeypatch.chdir("/")
    assert {path.parent for path in paths(settings).values()} == {tmp_path / "there"}
    assert len(paths(settings)) >= 5


def test_absolute_paths_stay(tmp_path: Path) -> None:
    settings = load(KeyHolderSettings, tmp_path, key_file="/run/share.key", tls=TLS | {"key": "/run/tls.pem"})
    assert settings.key_file == Path("/run/share.key")
    assert settings.tls.key == Path("/run/tls.pem")
    assert settings.tls.certificate == tmp_path / "tls.pem"


# -- the environment -------------------------------------------------------------------------------


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LISTEN": "127.0.0.1:9000", "WORKERS": "3", "TLS__KEY": "other.pem", "PASSPHRASE_FILE": "/run/passphrase",
        "PEERS__B": "elsewhere:1", "DEVICES_DIR": "/run/devices", "MAX_CLOCK_SKEW_S": "1.5",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"VEILMATCH_{name}", value)
    settings = load(KeyHolderSettings, tmp_path)
    assert (settings.listen, settings.workers, settings.max_clock_skew_s) == ("127.0.0.1:9000", 3, 1.5)
    assert settings.passphrase_file == Path("/run/passphrase")
    assert (settings.tls.key, settings.tls.certificate) == (tmp_path / "other.pem", tmp_path / "tls.pem")
    assert settings.peers == {"b": "elsewhere:1", "c": "[::1]:7413"}
    assert settings.devices_dir == Path("/run/devices")


def test_a_field_may_be_in_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEILMATCH_SIGNING_KEY", "env.key")
    monkeypatch.setenv("VEILMATCH_PAIRS", '["bc"]')
    settings = load(DeviceSettings, tmp_path, signing_key=None)
    assert (settings.signing_key, settings.pairs) == (tmp_path / "env.key", ["bc"])


def test_the_passphrase_in_the_environment_is_no_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEILMATCH_PASSPHRASE", "hush")
    monkeypatch.setenv("VEILMATCH_CACHE", "/cache")
    for kind in KINDS:
        assert "hush" not in repr(load(kind, tmp_path))


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_CLOCK_SKEW_S", "hush"), ("PEERS", "{hush"), ("WORKERS", "hush"), ("PEERS__D", "h:1"), ("TLS__HUSH", "x")],
)
def test_a_wrong_environment_is_a_typed_error(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"VEILMATCH_{name}", value)
    message = refused(KeyHolderSettings, tmp_path)
    assert name.split("__")[0].lower() in message
    assert "hush" not in message.replace("tls.hush", "")


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_field_is_refused_by_its_name(kind: type[Settings], tmp_path: Path) -> None:
    assert "colour: " in refused(kind, tmp_path, colour="hush")
    assert "tls.colour: " in refused(kind, tmp_path, tls=TLS | {"colour": "hush"})
    for option in ("_env_prefix", "_case_sensitive", "_secrets_dir", "__pydantic_self__"):
        assert f"{option}: " in refused(kind, tmp_path, **{option: "x"})


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_without_a_default_is_needed(kind: type[Settings], tmp_path: Path) -> None:
    for name in FIELDS[kind]:
        assert f"{name}: " in refused(kind, tmp_path, **{name: None})
    for name in TLS:
        assert f"tls.{name}: " in refused(kind, tmp_path, tls={k: v for k, v in TLS.items() if k != name})


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    message = refused(MatcherSettings, tmp_path, party="d", listen="hush", workers=-1)
    assert all(f"{name}: " in message for name in ("party", "listen", "workers"))
    assert "hush" not in message


ADDRESSES = ["", "host", "host:", ":1", "host:65536", "host:x", "a b:1", "::1:80", "http://h:1", "h:1\n", "h:-1"]
WRONG: dict[type[Settings], dict[str, list[Any]]] = {
    KeyHolderSettings: {
        "party": ["d", "A", "", 1],
        "listen": ADDRESSES,
        "peers": [{"b": "h:1"}, {"a": "h:1", "b": "h:1"}, {"b": "h:1", "c": "h"}, {"b": "h:1", "c": "h:1", "d": "h:1"}],
        "devices_dir": [7, []],
        "devices": [{"device-1": "ab" * 32}],
        "workers": [-1, 1025, 1.5, "many"],
        "stock_triples": [0, -1],
        "stock_bytes": [0],
        "stock_products": [0, 16383],
        "max_clock_skew_s": [-1],
        "max_request_lifetime_s": [0, -1],
        "peer_timeout_s": [0, 1e9],
        "refresh_interval_s": [0, -1, 1e9],
        "data_dir": [7],
    },
    MatcherSettings: {
        "party": ["d", "", 0],
        "key_holder": ADDRESSES,
        "peers": [{}, {"b": "h:1"}, {"a": "h:1", "b": "h:1"}, {"a": "h"}, {"a": "h:1", "d": "h:1"}],
        "galleries": [[], [""], ["main", "main"], ["x" * 65], "main"],
        "max_bulk_bytes": [0, -1],
        "bulk_memory_bytes": [-1, (1 << 28) - 1],
        "max_bulk_s": [0, -1, 1e6],
    },
    DeviceSettings: {
        "device": ["", "x" * 65],
        "matchers": [{"a": "h:1"}, {"a": "h:1", "b": "h"}, {"a": "h:1", "b": "h:1", "d": "h:1"}],
        "threshold": [0, -0.1, 1.1],
        "pairs": [[], ["ba"], ["ab", "ab"], "ab"],
        "timeout_s": [0, -1],
        "request_lifetime_s": [0, 121],
        "gallery": [""],
    },
}  # fmt: skip


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in KINDS for field in WRONG[kind]])
def test_a_value_that_cannot_work_is_refused(kind: type[Settings], field: str, tmp_path: Path) -> None:
    for value in WRONG[kind][field]:
        assert "x.toml" in refused(kind, tmp_path, **{field: value}), value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["a = ", "[tls", "a = 1\na = 2", "\0", b"\xff\xfe"])
def test_what_is_not_toml_is_refused(kind: type[Settings], text: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match="not TOML"):
        kind.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_there_is_refused(kind: type[Settings], tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read") as caught:
            kind.load(path)
        assert str(path) in str(caught.value)


# -- in plain words --------------------------------------------------------------------------------

USUAL = {DeviceSettings: "device.toml", KeyHolderSettings: "keyholder.toml", MatcherSettings: "matcher.toml"}
#: How the library that checks fields would say it.
JARGON = ("Input should", "Extra inputs", "Field required", "permitted", "valid string", "Value error", "dictionary")


def test_the_fields_of_all_files_are_known() -> None:
    assert {kind.usual_name: kind.model_fields.keys() for kind in (*KINDS, CeremonySettings)} == known_fields.FIELDS
    assert {kind: kind.usual_name for kind in KINDS} == USUAL


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_file_of_another_kind_is_told_for_what_it_is(
    kind: type[Settings], other: type[Settings], tmp_path: Path
) -> None:
    (tmp_path / "x.toml").write_text(to_toml(FIELDS[other]))
    if kind is other:
        assert kind.load(tmp_path / "x.toml")
        return
    with pytest.raises(ConfigurationError) as caught:
        kind.load(tmp_path / "x.toml")
    assert caught.value.got == f"a {USUAL[other]}" and USUAL[kind] in str(caught.value.expected)
    assert "x.toml is the configuration of a" in caught.value.message and ";" not in caught.value.message


@pytest.mark.parametrize(
    ("kind", "field", "meant"),
    [
        (DeviceSettings, "treshold", "did you mean threshold?"),
        (DeviceSettings, "timeout", "did you mean timeout_s?"),
        (DeviceSettings, "peer_timeout_s", "it belongs in keyholder.toml and matcher.toml"),
        (KeyHolderSettings, "gallery", "it belongs in device.toml"),
        (MatcherSettings, "gallerys", "did you mean galleries?"),
        (MatcherSettings, "zzz", "zzz: no such field"),
    ],
)
def test_an_unknown_field_is_told_with_what_was_meant_and_its_line(
    kind: type[Settings], field: str, meant: str, tmp_path: Path
) -> None:
    message = refused(kind, tmp_path, **{field: 1})
    line = 1 + (tmp_path / "x.toml").read_text().splitlines().index(f"{field} = 1")
    assert meant in message and f"x.toml, line {line}: {field}: " in message


def test_an_unknown_field_of_a_table_is_told_too(tmp_path: Path) -> None:
    message = refused(DeviceSettings, tmp_path, tls=TLS | {"certificat": "x"})
    assert "tls.certificat: no such field; did you mean certificate?" in message
    message = refused(DeviceSettings, tmp_path, matchers={"a": "h:1", "b": "h:1", "d": "h:1"})
    assert "matchers.d: no such name here; it must be 'a', 'b' or 'c'" in message
    message = refused(KeyHolderSettings, tmp_path, budgets={"device_request": 1})
    assert "did you mean device_requests?" in message


@pytest.mark.parametrize("kind", KINDS)
def test_no_word_of_the_library_that_checks_reaches_a_person(kind: type[Settings], tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [{name: None} for name in FIELDS[kind]]
    wrong += [{name: value} for name, values in WRONG[kind].items() for value in values]
    wrong += [{name: value} for name in kind.model_fields for value in (True, "x" * 99, 1.5, [], {}, {"a": 1}, [1], -1)]
    for changes in wrong:
        try:
            load(kind, tmp_path, **changes)
        except ConfigurationError as error:
            assert not any(word in str(error) for word in JARGON), (changes, str(error))


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_the_environment_sets_wrongly_is_told_as_such(
    kind: type[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEILMATCH_TLS__CERTIFICAT", "x")
    assert "the environment: VEILMATCH_TLS__CERTIFICAT: tls.certificat: " in refused(kind, tmp_path)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("VEILMATCH_TIMEOUT", "VEILMATCH_TIMEOUT_S"),
        ("VEILMATCH_TRESHOLD", "VEILMATCH_THRESHOLD"),
        ("VEILMATCH_PASPHRASE", "VEILMATCH_PASSPHRASE"),
        ("VEILMATCH_NOSUCH", None),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_variable_that_nothing_reads_is_refused(
    kind: type[Settings], variable: str, meant: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "hush")
    with pytest.raises(ConfigurationError) as caught:
        load(kind, tmp_path)
    assert caught.value.got == variable and "hush" not in str(caught.value)
    assert meant is None or hint(caught.value) == f"Did you mean {meant}?"
    assert "VEILMATCH_PASSPHRASE" not in str(caught.value.expected), "a guess is not what is expected"


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("threshold", 1.5, "must be at most 1.0, not 1.5"),
        ("threshold", "hush", "must be a number, not this text"),
        ("threshold", [0.4], "must be a number, not a list"),
        ("gallery", 7, "must be text in quotes, not 7"),
    ],
)
def test_what_is_wrong_says_what_is_there_and_quotes_no_text(
    tmp_path: Path, field: str, value: object, found: str
) -> None:
    told = refused(DeviceSettings, tmp_path, **{field: value})
    assert f"{field}: {found}" in told and "hush" not in told


def test_variables_of_other_parties_and_of_container_platforms_are_no_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "STOCK_TRIPLES", "PARTY", "BACKEND", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC", "PORT",
        "PORT_7401_TCP", "PORT_7401_TCP_ADDR", "MATCHER_A_SERVICE_HOST",
    ):  # fmt: skip
        monkeypatch.setenv(f"VEILMATCH_{name}", "1")
    assert load(DeviceSettings, tmp_path)


# -- files of all editors --------------------------------------------------------------------------


def test_nothing_is_prepared_unless_it_is_said_and_never_for_a_cluster(tmp_path: Path) -> None:
    cluster = {"address": "10.0.0.1:6379", "token_file": "token", "tls": TLS, "shards": 2}
    assert load(MatcherSettings, tmp_path).prepared_searches == 0
    assert load(MatcherSettings, tmp_path, prepared_searches=2).prepared_bytes == 64 << 20
    assert load(MatcherSettings, tmp_path, cluster=cluster).prepared_searches == 0
    assert "not for a cluster" in refused(MatcherSettings, tmp_path, prepared_searches=2, cluster=cluster)


def test_the_name_of_a_gallery_is_the_same_however_the_file_has_it(tmp_path: Path) -> None:
    composed, decomposed = "B\u00fcro", "Bu\u0308ro"
    assert load(DeviceSettings, tmp_path, gallery=decomposed).gallery == composed
    assert load(MatcherSettings, tmp_path, galleries=["main", decomposed]).galleries == ["main", composed]
    assert "must be different" in refused(MatcherSettings, tmp_path, galleries=[composed, decomposed])


@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(kind: type[Settings], tmp_path: Path) -> None:
    settings = load(kind, tmp_path)
    text = to_toml(FIELDS[kind])
    (tmp_path / "x.toml").write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert kind.load(tmp_path / "x.toml") == settings
    assert read_toml(tmp_path / "x.toml")[0] == FIELDS[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_text_in_another_encoding_is_named(kind: type[Settings], encoding: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(to_toml(FIELDS[kind]).encode(encoding))
    with pytest.raises(ConfigurationError, match="not TOML") as caught:
        kind.load(tmp_path / "x.toml")
    assert encoding.upper() in str(caught.value.got) and "UTF-8" in str(caught.value.expected)


def test_bytes_that_are_no_text_are_named_by_their_line(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b'a = 1\nb = "\xe9"\n')
    with pytest.raises(ConfigurationError) as caught:
        DeviceSettings.load(tmp_path / "x.toml")
    assert str(caught.value.got).endswith("x.toml, line 2: not UTF-8")


def test_a_folder_in_place_of_a_file_says_which_file_is_in_it(tmp_path: Path) -> None:
    load(DeviceSettings, tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        DeviceSettings.load(tmp_path)
    assert caught.value.expected == str(tmp_path / "x.toml")


@pytest.mark.parametrize("kind", KINDS)
def test_a_tilde_is_the_home_directory(kind: type[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    load(kind, home, public_key="~/public.json", tls=TLS | {"key": "~/tls-key.pem"})
    settings = kind.load(Path("~/x.toml"))
    assert (settings.public_key, settings.tls.key) == (home / "public.json", home / "tls-key.pem")
    assert settings.tls.certificate == home / "tls.pem"
