"""What a query's command does when the answer is for a relying party."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from veilmatch.common.output import messages, show, show_json
from veilmatch.crypto.errors import ConfigurationError, InvalidInputError

if TYPE_CHECKING:
    from veilmatch.client.client import Client
    from veilmatch.client.recipient import ForRecipient, SealedResult

Recipient = Annotated[
    Path | None,
    typer.Option(help="Certificate of a recipient: the answer is sealed to it, and not shown here.", readable=False),
]
Challenge = Annotated[
    str | None, typer.Option(help="With --recipient: what it gave for this question, in hex, up to 64 bytes.")
]
Out = Annotated[
    Path | None,
    typer.Option(help="With --recipient: where the sealed answer goes; else standard output.", readable=False),
]


def ask_for(
    client: Client,
    recipient: Path,
    challenge: str | None,
    out: Path | None,
    ask: Callable[[ForRecipient, bytes], SealedResult],
    *,
    as_json: bool,
) -> NoReturn:
    """Ask a question for a recipient and hand over what it opens; exit status 0 says that there is an answer."""
    try:
        given = bytes.fromhex(challenge or "")
    except ValueError:
        raise InvalidInputError("a challenge is hex digits", expected="two for each byte") from None
    with messages().status("Asking for the recipient"):
        result = ask(client.for_recipient(recipient), given)
    document = result.export()
    done = "the sealed answer was made"
    if out is not None:
        try:
            out.write_bytes(document)
        except OSError as error:
            raise ConfigurationError(
                "the sealed answer cannot be written", got=f"{out}: {error.strerror}", expected="a file"
            ) from None
        done = f"{out} was written"
    if as_json:
        requests = [request.hex() for request in result.requests]
        described = {"operation": result.operation, "pairs": list(result.pairs), "requests": requests}
        place = {"file": str(out)} if out is not None else {"answer": document.decode()}
        show_json(described | {"request_id": result.request_id} | place, done=done)
    elif out is None:
        show(document.decode().rstrip("\n"), done=done)
    else:
        messages().print(f"{out} is for the recipient ({result.total_s:.2f} s)", markup=False)
    raise typer.Exit(0)


def require_recipient(challenge: str | None, out: Path | None) -> None:
    """Raise ConfigurationError if one of the options is given that make sense with a recipient only."""
    if challenge is not None or out is not None:
        raise ConfigurationError("for whom is the answer?", expected="--recipient, with --challenge and --out")
