"""Dealt stock on disk: sealed checked blocks, and the marks below which everything counts as used.

A mark is written with fsync before any randomness below it is used, and never goes back. After a
restart everything below the mark is skipped, used or not, so nothing is ever used twice. In the same
way the number of a block is written before the nonce for its check leaves: no block is checked twice. The
`generation` is drawn once per storage: a key holder that lost its storage starts another stock. Each
pair has one current stock; the blocks of the one before are deleted, its marks stay for ever. While a refresh of the
shares is not finished, blocks of the other epoch stay as well: a key holder that goes back takes its stock up again,
where the marks are.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from sqlalchemy import Column, Connection, and_, delete, literal, select
from sqlalchemy.dialects.sqlite import insert

from veilmatch.crypto.dealing import BlockName, CheckedBlock, Kind
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.server.ground.database import open_database
from veilmatch.server.keyholder.stock.memory import Memory
from veilmatch.server.keyholder.stock.place import require_place
from veilmatch.server.keyholder.stock.schema import REVISIONS, blocks, current, marks, metadata, tried
from veilmatch.server.keyholder.stock.schema import generation as generations
from veilmatch.server.monitoring import meters

FILE_NAME = "stock.db"
GENERATION_BYTES = 16
_NONCE_BYTES = 12


class StockStore:
    """`stock.db` of a key holder's data directory. Blocks are sealed under a key derived from storage_seed.

    Raises IntegrityError if it is not where it was made: see place.py.
    """

    def __init__(self, data_dir: Path, storage_seed: bytes) -> None:
        self._engine = open_database(data_dir / FILE_NAME, metadata, REVISIONS)
        self._aead = block_cipher(storage_seed)
        try:
            self.generation = self._open_generation(data_dir / FILE_NAME)
        except BaseException:
            self._engine.dispose()
            raise
        #: What this holder remembers of its peers, to tell them, and itself, of a copy that was put back.
        self.memory = Memory(self._engine)

    def adopt(self, pair: Pair, stock: bytes, *, only_of: int | None = None) -> None:
        """Make `stock` the current one of `pair`, durably, and delete the blocks of the one before.

        only_of: keep them, but those of this epoch.
        """
        replaced = select(current.c.stock).where(current.c.pair == pair, current.c.stock != stock)
        statement = insert(current).values(pair=pair, stock=stock)
        statement = statement.on_conflict_do_update(index_elements=["pair"], set_={"stock": stock})
        gone = blocks.c.stock.in_(replaced)
        with self._engine.begin() as connection:
            connection.execute(delete(blocks).where(gone if only_of is None else gone & (blocks.c.epoch == only_of)))
            connection.execute(statement)

    def drop_epoch(self, epoch: int) -> None:
        """Delete the blocks of an epoch."""
        with self._engine.begin() as connection:
            connection.execute(delete(blocks).where(blocks.c.epoch == epoch))

    def mark(self, stock: bytes, kind: Kind) -> int:
        """Return the first index of this stock that was never reserved."""
        return self._raised(marks.c.mark, stock, kind)

    def advance(self, stock: bytes, kind: Kind, mark: int, agreed: int = 0) -> None:
        """Move the mark up to `mark`, durably. agreed: everything below it the peer has marked as used as well."""
        self._raise(marks.c.mark, stock, kind, mark, agreed=agreed)

    def tried(self, stock: bytes, kind: Kind) -> int:
        """Return the number of the first block that was never about to be checked."""
        return self._raised(tried.c.number, stock, kind)

    def begin_check(self, name: BlockName) -> None:
        """Note durably that this block, and those before it, are checked now or never."""
        self._raise(tried.c.number, name.stock, name.kind, name.number + 1)

    def put(self, name: BlockName, block: CheckedBlock) -> None:
        """Keep a block, sealed; one of another stock than the current one of its pair is let go."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._aead.encrypt(nonce, block.content, _context(name))
        # In one statement: a block that arrives while its stock is being replaced must not stay behind.
        values = [literal(value) for value in (name.kind, name.number, name.epoch, sealed)]
        row = select(current.c.stock, *values).where(current.c.pair == name.pair, current.c.stock == name.stock)
        statement = insert(blocks).from_select(["stock", "kind", "number", "epoch", "sealed"], row)
        with self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_nothing())

    def get(self, name: BlockName) -> CheckedBlock | None:
        """Return the block, or None if it is not here. Raises IntegrityError if it was altered."""
        this = (blocks.c.stock == name.stock) & (blocks.c.kind == name.kind) & (blocks.c.number == name.number)
        with self._engine.connect() as connection:
            sealed = connection.execute(select(blocks.c.sealed).where(this)).scalar()
        if sealed is None:
            return None
        return open_block(self._aead, name, sealed)

    def numbers(self, stock: bytes, kind: Kind) -> set[int]:
        """Return the numbers of the blocks that are here."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(blocks.c.number).where(blocks.c.stock == stock, blocks.c.kind == kind))
            return {int(row.number) for row in rows}

    def drop_below(self, stock: bytes, kind: Kind, number: int) -> None:
        """Delete used-up blocks."""
        with self._engine.begin() as connection:
            connection.execute(
                delete(blocks).where(blocks.c.stock == stock, blocks.c.kind == kind, blocks.c.number < number)
            )

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def _raised(self, column: Column[int], stock: bytes, kind: Kind) -> int:
        table = column.table
        with self._engine.connect() as connection:
            found = connection.execute(select(column).where(table.c.stock == stock, table.c.kind == kind)).scalar()
        return int(found or 0)

    def _raise(self, column: Column[int], stock: bytes, kind: Kind, value: int, **beside: int) -> None:
        """Move a number up, durably, and what is noted beside it; it never goes back."""
        moved = {column.name: value} | beside
        statement = insert(column.table).values({"stock": stock, "kind": kind} | moved)
        statement = statement.on_conflict_do_update(index_elements=["stock", "kind"], set_=moved, where=column < value)
        started = time.perf_counter()
        with self._engine.begin() as connection:
            connection.execute(statement)
        meters.synced("stock", 1, time.perf_counter() - started)

    def _open_generation(self, path: Path) -> bytes:
        with self._engine.begin() as connection:
            found = connection.execute(select(generations.c.value)).scalar()
            if found is None:
                found = secrets.token_bytes(GENERATION_BYTES)
                connection.execute(insert(generations).values(value=found))
            require_place(connection, path, bytes(found))
        return bytes(found)


def block_cipher(storage_seed: bytes) -> AESGCM:
    """Return what seals and opens the blocks of a key holder's own storage."""
    return AESGCM(HKDFExpand(hashes.SHA256(), 32, b"veilmatch stock storage v1").derive(storage_seed))


def open_block(cipher: AESGCM, name: BlockName, sealed: bytes) -> CheckedBlock:
    """Return a sealed block. Raises IntegrityError if it was altered, or is another one than `name` says."""
    try:
        return CheckedBlock(cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _context(name)))
    except (InvalidTag, ValueError):
        raise IntegrityError("a stored block of dealt stock was altered", got=f"{name.kind} {name.number}") from None


def stored_blocks(connection: Connection) -> Iterator[tuple[Pair | None, bytes, Kind, int, int, bytes, int]]:
    """Yield pair, stock, kind, number, epoch and sealed content of every block, and the mark of its kind.

    The pair of a current stock only.
    """
    b, m = blocks.c, marks.c
    query = select(current.c.pair, b.stock, b.kind, b.number, b.epoch, b.sealed, m.mark)
    joined = blocks.join(current, current.c.stock == b.stock, isouter=True)
    query = query.select_from(joined.join(marks, and_(m.stock == b.stock, m.kind == b.kind), isouter=True))
    for row in connection.execution_options(yield_per=10).execute(query.order_by(b.stock, b.kind, b.number)):
        yield row.pair, row.stock, row.kind, row.number, row.epoch, row.sealed, row.mark or 0


def _context(name: BlockName) -> bytes:
    return digest("checked block", name.pair, name.stock, name.epoch, name.kind, name.number)
