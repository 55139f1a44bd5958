"""stock.db of a key holder: its pages, and with the key every sealed block."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from veilmatch.crypto.dealing import BLOCK_UNITS, BlockName
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.parties import Pair, pairs_of
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.check.databases import check_mode, check_pages, reading
from veilmatch.server.check.report import Report
from veilmatch.server.keyholder.stock.place import moved_from
from veilmatch.server.keyholder.stock.store import block_cipher, open_block, stored_blocks

REMEDY = (
    "stop this key holder, delete stock.db, stock.db-wal and stock.db-shm, start it: it begins a new stock and uses no "
    "old triple again; never put an older copy there"
)


def check_stock_db(path: Path, key: KeyHolderKey | None, report: Report) -> None:
    """Look at every page of a stock.db, and with the key at every block, as it is on disk now."""
    check_mode(path, report)
    with report.finding(path, REMEDY), reading(path) as connection:
        check_pages(connection, path, REMEDY, report)
        if (moved := moved_from(connection, path)) is not None:
            # It may be looked at where it is not to be used.
            report.notes.append(f"{path} was {moved}: no key holder starts with it (docs/backup.md)")
        cipher = None if key is None else block_cipher(key.storage_seed(SECRET_ACCESS))
        count = 0
        for pair, stock, kind, number, epoch, sealed, mark in stored_blocks(connection):
            count += 1
            # A stock that waits for a refresh to end is not the current one of its pair any more.
            pairs: tuple[Pair, ...] = (pair,) if pair is not None else () if key is None else pairs_of(key.party)
            names = [BlockName(candidate, stock, epoch, kind, number) for candidate in pairs]
            if cipher is not None and not any(_opens(cipher, name, sealed) for name in names):
                where = f"block {number} of {kind}, stock {stock.hex()[:16]}, pair {pair or 'unknown'}"
                if (number + 1) * BLOCK_UNITS[kind] <= mark:
                    report.notes.append(f"{path}: {where}: altered, but passed over already; nothing to do")
                else:
                    report.found(path, where, "the sealed block is not what was written", REMEDY)
        report.saw(path, f"{count} sealed blocks, {'opened' if cipher else 'not opened: that takes the passphrase'}")


def _opens(cipher: AESGCM, name: BlockName, sealed: bytes) -> bool:
    try:
        open_block(cipher, name, sealed)
    except IntegrityError:
        return False
    return True
