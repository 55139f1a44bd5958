"""The token without which no secret leaves a key handle.

Reading key material needs `SECRET_ACCESS` as an argument, so every place that does so imports this
module, and a reviewer finds them all with one search. It is a guard against accidents, not
against code that means harm: Python cannot hide memory (docs/limitations.md).
"""

from __future__ import annotations

from typing import NoReturn


class SecretAccess:
    """The type of the token; there is one instance."""


SECRET_ACCESS = SecretAccess()


class SecretHolder:
    """Base of the handles of secrets: no representation of material, no copy, no pickle."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a secret and cannot be pickled or copied")
