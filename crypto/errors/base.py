"""The root of the tree of errors: its fields, and how they cross a wire."""

from __future__ import annotations

from typing import Any, ClassVar, TypedDict, Unpack

#: Numbers of an error that came from elsewhere are below it: exact as floats.
_MAX_NUMBER = 2**53


class Details(TypedDict, total=False):
    """What any error may be made with, beside its message. See the head of this package."""

    got: object
    expected: object
    party: str | None
    alternatives: tuple[str, ...]
    retry_after_s: float | None
    request_id: str | None
    said_by: tuple[str, ...]
    hint: str | None


class VeilmatchError(Exception):
    """Base of all errors. `message` is a sentence; the other fields are described at the head of this package."""

    #: Stable name on the wire and in `--json`; unique in the tree.
    code: ClassVar[str] = "internal"
    #: The feature of whoever knows this code (crypto/versions.py), None if all do; others are told the class above it.
    needs: ClassVar[str | None] = None
    #: Exit status of the command line.
    exit_status: ClassVar[int] = 10

    def __init__(self, message: str, **details: Unpack[Details]) -> None:
        self.message = message
        self.got = text(details.get("got"))
        self.expected = text(details.get("expected"))
        self.party = details.get("party")
        self.alternatives = tuple(details.get("alternatives", ()))
        self.retry_after_s = details.get("retry_after_s")
        self.request_id = details.get("request_id")
        #: Whoever said it first, and then whoever passed it on; empty where it was raised.
        self.said_by = tuple(details.get("said_by", ()))
        self.hint = details.get("hint")
        super().__init__(message)

    def __str__(self) -> str:
        detail = [f"expected {self.expected}"] if self.expected is not None else []
        detail += [f"got {self.got}"] if self.got is not None else []
        return f"{self.message} ({', '.join(detail)})" if detail else self.message

    @property
    def claim(self) -> str:
        """The message, after whose word it is: "keyholder-b says: keyholder-a says: the disk is full"."""
        return "".join(f"{name} says: " for name in reversed(self.said_by)) + self.message

    def fields(self) -> dict[str, Any]:
        """Everything that `from_fields` needs to raise the same error elsewhere; JSON types only."""
        return {
            "code": self.code,
            "message": self.message,
            "got": self.got,
            "expected": self.expected,
            "party": self.party,
            "alternatives": list(self.alternatives),
            "retry_after_s": self.retry_after_s,
            "request_id": self.request_id,
            "said_by": list(self.said_by),
            "hint": self.hint,
        }

    @classmethod
    def _restore(cls, message: str, details: Details, fields: dict[str, Any]) -> VeilmatchError:
        """Return the error of these parts. fields: as they came, for what a class has beside `Details`."""
        return cls(message, **details)

    @staticmethod
    def from_fields(fields: dict[str, Any]) -> VeilmatchError:
        """Return the error that `fields` describes; a code of a newer peer becomes a VeilmatchError."""
        details = Details(
            got=fields.get("got"),
            expected=fields.get("expected"),
            party=text(fields.get("party")),
            alternatives=texts(fields.get("alternatives")),
            retry_after_s=number(fields.get("retry_after_s")),
            request_id=text(fields.get("request_id")),
            said_by=texts(fields.get("said_by")),
            hint=text(fields.get("hint")),
        )
        kind = _by_code(VeilmatchError).get(str(fields.get("code")), VeilmatchError)
        return kind._restore(str(fields.get("message", "")), details, fields)


def text(value: object) -> str | None:
    """Return a text that came from elsewhere, or None."""
    return None if value is None else str(value)


def texts(value: object) -> tuple[str, ...]:
    """Return texts that came from elsewhere; none, for what is no list."""
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def number(value: object) -> float | None:
    """Return a number that came from elsewhere, or None for anything else, and for one that cannot be waited for."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_NUMBER
    return float(value) if usable else None  # type: ignore[arg-type]


def _by_code(root: type[VeilmatchError]) -> dict[str, type[VeilmatchError]]:
    return {root.code: root} | {c: k for sub in root.__subclasses__() for c, k in _by_code(sub).items()}
