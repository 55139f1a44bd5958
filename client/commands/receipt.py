"""`veilmatch receipt check FILE`: what the receipt of an erasure says, and whether two organisations have signed it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veilmatch.client.commands.base.options import Json
from veilmatch.common.output import show, show_json
from veilmatch.crypto.errors import ConfigurationError


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    group = typer.Typer(help="Receipts of erasures, signed by two organisations.", no_args_is_help=True)
    group.command("check")(check)
    app.add_typer(group, name="receipt")


def check(
    receipt: Annotated[Path, typer.Argument(metavar="FILE", help="A receipt of `veilmatch erase`.", readable=False)],
    public: Annotated[Path, typer.Option(help="public.json of the installation.", readable=False)],
    subject: Annotated[str | None, typer.Option(help="All whose templates it has to be about.")] = None,
    taken_back: Annotated[
        bool, typer.Option("--taken-back", help="It may be about one enrolment of the subject alone.")
    ] = False,
    without_salt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the receipt without what would confirm a name, for others.", readable=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a receipt, offline: exit status 0 says that both organisations named have signed exactly this erasure."""
    from veilmatch.client.receipt import ErasureReceipt
    from veilmatch.common.public_file import read_public_file

    try:
        found = ErasureReceipt.decode(receipt.read_bytes())
    except OSError as error:
        raise ConfigurationError("the receipt cannot be read", got=f"{receipt}: {error.strerror}") from None
    found.check(read_public_file(public), subject, taken_back=taken_back)
    if without_salt is not None:
        write(without_salt, found.without_salt().encode())
    done, signed = "the receipt was checked", " and ".join(found.organisations)
    if as_json:
        document = {
            "gallery": found.gallery,
            "key_id": found.key_id.hex(),
            "sequence": found.sequence,
            "chain": found.chain.hex(),
            "erased_at": found.erased_at.isoformat(),
            "templates": found.templates,
            "device": found.device,
            "subject_digest": found.subject_digest,
            "organisations": list(found.organisations),
            "subject": subject,
            "one_enrolment": bool(found.enrolment) if found.salt else None,
        }
        show_json(document, done=done)
        return
    part = "one enrolment of " if found.enrolment else ""
    whose = f" of {part}{subject}" if subject is not None else ""
    show(
        f"erased: {found.templates} templates{whose} in {found.gallery}, change {found.sequence}, "
        f"{found.erased_at:%Y-%m-%d %H:%M:%S} UTC, signed by {signed}",
        done=done,
    )


def write(path: Path, content: bytes) -> None:
    """Write a receipt, for this user alone if the file is new. Raises ConfigurationError."""
    import os

    try:
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(content)
    except OSError as error:
        raise ConfigurationError("the receipt cannot be written", got=f"{path}: {error.strerror}") from None
