"""What a device carries to the recipient that its request named: statements of organisations, which it cannot open.

A JSON document, for a file or the body of a request; whoever changes it makes it worthless, as
`veilmatch.relying` checks every part against what organisations have signed. docs/recipients.md.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from veilmatch.crypto.errors import StatementError
from veilmatch.crypto.requests import SALT_BYTES

FORMAT = "veilmatch sealed answer 1"
#: Two organisations of each of the three pairs.
MAX_STATEMENTS = 6
#: No document is longer: the subjects of a million templates, and statements with a bit for each.
MAX_BYTES = 1 << 26
_FIELDS = {"format", "salt", "statements", "labels"}
_SALT = re.compile(rf"(?:[0-9a-f]{{{2 * SALT_BYTES}}})?")


@dataclass(frozen=True, slots=True)
class SealedAnswer:
    """The sealed answer to one question.

    statements: compact JWS, two for each pair that was asked. salt: 16 bytes that hide the subject's name from key
    holders, b"" where none is named. labels: of a search, the subject of each compared template, in order.
    """

    statements: tuple[str, ...]
    salt: bytes = field(default=b"", repr=False)
    labels: tuple[str, ...] = field(default=(), repr=False)

    def encode(self) -> bytes:
        """Return the document."""
        fields = {
            "format": FORMAT,
            "salt": self.salt.hex(),
            "statements": self.statements,
            "labels": self.labels,
        }
        return (json.dumps(fields, ensure_ascii=False) + "\n").encode()

    @staticmethod
    def decode(data: bytes | str) -> SealedAnswer:
        """Return what a document holds; nothing is verified here. Raises StatementError if it is none."""
        try:
            if len(data) > MAX_BYTES:
                raise ValueError
            # Of bytes, JSON would be read in other encodings, too.
            fields = json.loads(data if isinstance(data, str) else data.decode())
            if not isinstance(fields, dict) or set(fields) != _FIELDS or fields["format"] != FORMAT:
                raise ValueError
            statements, labels, salt = fields["statements"], fields["labels"], fields["salt"]
            if not _are_texts(statements) or not _are_texts(labels) or not _SALT.fullmatch(salt):
                raise ValueError
            if not 1 <= len(statements) <= MAX_STATEMENTS:
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            raise StatementError("not a sealed answer", expected=FORMAT) from None
        return SealedAnswer(tuple(statements), bytes.fromhex(salt), tuple(labels))


def _are_texts(values: object) -> bool:
    """Return whether it is a list of texts. Raises UnicodeEncodeError for half a character, which JSON can hold."""
    return isinstance(values, list) and all(isinstance(value, str) and value.encode() is not None for value in values)
