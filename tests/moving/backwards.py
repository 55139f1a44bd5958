"""Writes an installation as versions with two matchers had it, from one that the present ceremony made."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.moving.version_4 import Old, write_version_4
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.encryption.public_key_format import OLD_FORMAT
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.server.installation.plan import folder_of
from veilmatch.server.installation.toml import to_toml
from veilmatch.server.matcher.gallery.body import Body
from veilmatch.server.matcher.gallery.disk.store import Store

MATCHERS = ("a", "b")


def write_earlier(new: Path, old: Path) -> Path:
    """Write `new`, whose daemons have been stopped, as an installation of two matchers; return `old`."""
    public = _old_public(new / "public.json")
    shutil.copytree(new / "authority", old / "authority")
    (old / "public.json").write_bytes(public)
    for device in new.glob("device-*"):
        shutil.copytree(device, old / device.name)
        (old / device.name / "public.json").write_bytes(public)
        _change(old / device.name / "device.toml", lambda fields: fields["matchers"].pop("c", None))
    for name in (*(f"matcher-{x}" for x in MATCHERS), *(f"keyholder-{x}" for x in PARTIES)):
        shutil.copytree(new / folder_of(name), old / name, ignore=shutil.ignore_patterns("lock"))
        (old / name / "organisation.key").unlink()
        (old / name / "public.json").write_bytes(public)
        _change(old / name / f"{name.split('-')[0]}.toml", lambda fields: fields.pop("metrics"))
    key_holder_c = tomllib.loads((old / "keyholder-a" / "keyholder.toml").read_text())["peers"]["c"]
    for party in PARTIES:
        _change(old / f"keyholder-{party}" / "keyholder.toml", lambda fields: fields.pop("organisation_key"))
    for party in MATCHERS:

        def two(fields: dict[str, Any], party: str = party) -> None:
            fields.pop("organisation_key")
            fields["seat"] = fields.pop("party")
            fields["peer"] = fields.pop("peers")["b" if party == "a" else "a"]
            fields["key_holders"] = {party: fields.pop("key_holder"), "c": key_holder_c}

        _change(old / f"matcher-{party}" / "matcher.toml", two)
        data = new / folder_of(f"matcher-{party}") / "data"
        for file in (old / f"matcher-{party}" / "data").glob("gallery.db*"):
            file.unlink()
        if (data / "gallery.db").exists():
            _old_gallery(data, old / f"matcher-{party}" / "data", new)
    return old


def _old_public(path: Path) -> bytes:
    fields = json.loads(path.read_bytes())
    fields["format"] = OLD_FORMAT
    del fields["signers"]
    return (json.dumps(fields, indent=1) + "\n").encode()


def _change(path: Path, change: Any) -> None:
    fields = tomllib.loads(path.read_text())
    change(fields)
    path.write_text(to_toml(fields))


def _old_gallery(data: Path, target: Path, new: Path) -> None:
    key = read_public_file(new / "public.json").public_key
    store = Store(data, key.key_id, key.parameters)
    try:
        galleries = {}
        for name in store.galleries():
            added = {(pack, slot): number for pack, slot, number in store.sources(name)}
            subjects = {(pack, slot): subject for pack, slot, subject in store.templates(name)}
            changes = []
            for change in store.changes_after(name, 0, 10_000):
                body = Body.decode(change.body)
                templates = []
                for at, number in added.items():
                    if number == change.sequence:
                        record = store.record(name, *at)
                        templates.append((*at, subjects[at], record.ciphertexts, record.by_device))
                changes.append(Old(body.kind, body.token, body.result, body.model, body.device, templates,
                                   body.retired, body.request_digest))  # fmt: skip
            galleries[name] = changes, [content for _, content in store.packs(name)]
    finally:
        store.close()
    write_version_4(target, key.key_id, key.parameters, galleries)
    with closing(sqlite3.connect(target / "gallery.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (4,)
