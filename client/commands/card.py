"""`veilmatch card`: what a card says, as text, as a QR code and back; and how one is revoked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Config, Json, Timeout, open_client
from veilmatch.client.commands.subject import consent_document
from veilmatch.common.output import messages, show, show_json

if TYPE_CHECKING:
    from veilmatch.client.card import Card

_File = Annotated[Path, typer.Argument(metavar="FILE", help="A card.", readable=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    group = typer.Typer(help="Cards: records that their people carry.", no_args_is_help=True)
    for name, command in (("show", show_card), ("text", text), ("qr", qr), ("read", read), ("revoke", revoke)):
        group.command(name)(command)
    app.add_typer(group, name="card")


def show_card(
    card: _File,
    public: Annotated[
        Path | None,
        typer.Option(help="public.json of the installation: check the signatures, offline.", readable=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what stands on a card. Whether it was revoked, servers alone know."""
    from veilmatch.client.card import Card
    from veilmatch.common.public_file import read_public_file

    found = Card.load(card)
    if public is not None:
        found.check(read_public_file(public))
    done = "the card was read" if public is None else "the card was checked"
    if as_json:
        show_json(document(found) | {"signatures_checked": public is not None}, done=done)
        return
    signed = "signed by" if public is not None else "signatures not checked, of"
    for line in (
        f"{found.subject}, in {found.gallery}, serial {found.serial}",
        f"good from {found.issued_at:%Y-%m-%d %H:%M} to {found.expires_at:%Y-%m-%d %H:%M} UTC",
        f"model {found.model}, key {found.key_id}",
        *([f"under the consent {found.consent.reference} {found.consent.version}".rstrip()] if found.consent else []),
        f"{signed} {' and '.join(found.organisations)}; {len(found.encode())} bytes",
    ):
        show(line, done=done)


def text(card: _File) -> None:
    """Print a card as text, for a message; `--record` and all commands here read that as well."""
    from veilmatch.client.card import Card

    for line in Card.load(card).text.splitlines():
        show(line, done="the card was read")


def qr(
    card: _File,
    out: Annotated[Path, typer.Argument(metavar="IMAGE", help=".png, .svg or .pdf", readable=False)],
    scale: Annotated[int, typer.Option(min=1, max=64, help="Pixels of a module.")] = 4,
) -> None:
    """Write a card as a QR code, to be printed 6 cm wide or wider."""
    from veilmatch.client.card import Card

    Card.load(card).qr(out, scale=scale)
    show(f"wrote {out}", done=f"wrote {out}")


def read(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A photo of the QR code of a card.")],
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where the card goes.", readable=False)],
) -> None:
    """Read a card from the photo of its QR code."""
    from veilmatch.client.card import Card

    Card.from_qr(image).save(out)
    show(f"wrote {out}", done=f"wrote {out}")


def revoke(
    serial: Annotated[str, typer.Argument(help="Of the card, 32 hex digits; `veilmatch card show` says it.")],
    config: Config = DEFAULT_CONFIG,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Have a card refused from now on, at all organisations."""
    with open_client(config) as client, messages().status("Revoking"):
        result = client.revoke_card(serial, timeout_s=timeout)
    done = f"revoked: {result.serial}"
    if as_json:
        document = {"serial": result.serial, "sequence": result.sequence, "request_id": result.request_id}
        show_json(document, done=done)
    else:
        show(done, done=done)


def document(card: Card) -> dict[str, Any]:
    """Return what stands on a card in JSON; times in UTC."""
    return {
        "subject": card.subject,
        "serial": card.serial,
        "gallery": card.gallery,
        "model": card.model,
        "key_id": card.key_id,
        "organisations": list(card.organisations),
        "issued_at": card.issued_at.isoformat(),
        "expires_at": card.expires_at.isoformat(),
        "consent": consent_document(card.consent),
        "bytes": len(card.encode()),
    }
