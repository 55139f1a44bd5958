"""What a check has looked at, and what it found: each damage with its place and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from veilmatch.crypto.errors import VeilmatchError


@dataclass(frozen=True, slots=True)
class Finding:
    """One damage. file: a path. where: in it, "" for all of it. what: the damage. remedy: a sentence for people."""

    file: str
    where: str
    what: str
    remedy: str


@dataclass
class Report:
    """party: whose folder it is, "" if only a data folder was given. looked_at: file, and what is in it. notes: no
    damage, but worth knowing, such as what could not be looked at."""

    party: str = ""
    looked_at: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def saw(self, file: object, what: str) -> None:
        """Say that a file was looked at, whatever was found."""
        self.looked_at.append((str(file), what))

    def found(self, file: object, where: str, what: object, remedy: str) -> None:
        """Add a damage."""
        self.findings.append(Finding(str(file), where, str(what), remedy))

    @contextmanager
    def finding(self, file: object, remedy: str, where: str = "") -> Iterator[None]:
        """Turn an error of the body into a damage of this file, and go on after it."""
        try:
            yield
        except VeilmatchError as error:
            self.found(file, where, error, remedy)
        except OSError as error:
            self.found(file, where, f"cannot be read: {error.strerror}", remedy)
        except DBAPIError as error:
            # Its own text quotes the statement.
            self.found(file, where, f"SQLite says: {error.orig}", remedy)
        except (SQLAlchemyError, TypeError, ValueError, OverflowError) as error:
            # What SQLite gives back need not be of the type that was stored.
            self.found(file, where, f"a value of the wrong kind ({type(error).__name__})", remedy)

    def document(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "party": self.party,
            "damaged": bool(self.findings),
            "findings": [asdict(finding) for finding in self.findings],
            "looked_at": [{"file": file, "what": what} for file, what in self.looked_at],
            "notes": self.notes,
        }
