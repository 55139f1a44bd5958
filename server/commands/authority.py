"""`veilmatch authority`: TLS certificates of all parties, where the authority of the installation is.

renew     new certificates in place of old ones; daemons read them while they serve
revoke    certificates that nobody is to serve any more
replace   another authority, with a time in which both count
status    what was issued, until when, and what was taken back
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from veilmatch.common.output import say, show_json, show_tables
from veilmatch.server.commands._configurations import DaemonFolders, Installation, configurations

if TYPE_CHECKING:
    from cryptography import x509

    from veilmatch.server.installation.tls.folder import AuthorityFolder, Issued
    from veilmatch.server.installation.tls.renewing import Held

Directory = Annotated[Path, typer.Option("--installation", help="Installation with its authority.", readable=False)]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="File with its passphrase; else VEILMATCH_PASSPHRASE, else a prompt.", readable=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
#: Exit status of `status` if a certificate in use has ended or was taken back.
_WRONG = 7
_READ = "the certificates were read"
_ELSEWHERE = (
    "to parties whose folders are elsewhere go ca.pem and crl.pem of authority/for-parties; daemons read them "
    "while they serve"
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    authority = typer.Typer(help="TLS certificates of all parties: renew, revoke, look.", no_args_is_help=True)
    for name, command in (("renew", renew), ("revoke", revoke), ("replace", replace), ("status", status)):
        authority.command(name)(command)
    app.add_typer(authority, name="authority")


def renew(
    names: Annotated[list[str] | None, typer.Argument(help="matcher-a, device-1, ...; all, unless said.")] = None,
    installation: Directory = Path(),
    out: Annotated[
        Path | None,
        typer.Option(help="Where folders with the new files go, NAME each; else those here.", readable=False),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=825, help="How long they are to be valid.")] = 825,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Issue new TLS certificates and keys to parties and devices, under their names.

    The old ones count until they end: `revoke` them if a key may have been read.
    """
    from veilmatch.server.installation.passphrase import read_passphrase
    from veilmatch.server.installation.tls.renewing import renew as issue

    done = issue(installation, names or [], read_passphrase(passphrase_file), out, datetime.timedelta(days=days))
    if as_json:
        renewed = [{"party": x.name, "folder": str(x.folder), "not_after": _seconds(x.end)} for x in done]
        show_json({"renewed": renewed}, done="the certificates were renewed")
        return
    for one in done:
        say(f"{one.name} has a certificate until {one.end:%Y-%m-%d}, in {one.folder}")
    say("copy tls-key.pem (mode 0600) and tls.pem to machines elsewhere; daemons read them while they serve")


def revoke(
    which: Annotated[str, typer.Argument(help="A party or device, a serial number in hex, or a file.")],
    installation: Directory = Path(),
    older: Annotated[bool, typer.Option("--older", help="Of that name all but the newest one.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Take back TLS certificates: servers refuse them as callers once they have the new revocation list.

    A device is refused by every server then. A server that is called with one is believed until the authority is
    replaced: see `replace`.
    """
    from veilmatch.server.installation.passphrase import read_passphrase
    from veilmatch.server.installation.tls.renewing import revoke as take_back

    done = take_back(installation, which, read_passphrase(passphrase_file), older=older)
    if as_json:
        show_json({"revoked": [_document(one) for one in done]}, done="the certificates were revoked")
        return
    for one in done:
        say(f"{one.name}: the certificate {one.serial} is taken back")
    say(_ELSEWHERE)


def replace(
    installation: Directory = Path(),
    end: Annotated[bool, typer.Option("--end", help="The old one counts no more: all are renewed.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Replace the authority. Both count until `--end`: first this, then `renew`, then `--end`, each at all parties."""
    from veilmatch.server.installation.passphrase import read_passphrase
    from veilmatch.server.installation.tls.renewing import end_replacement, replace_authority

    names = end_replacement(installation) if end else replace_authority(installation, read_passphrase(passphrase_file))
    if as_json:
        show_json({"ended": end, "told": list(names)}, done="the authority was replaced" if end else "it has begun")
        return
    say("the old authority counts no more" if end else "two authorities count now, and the new one issues")
    say(_ELSEWHERE)
    if not end:
        say("when all parties trust both: `veilmatch authority renew`; when all are renewed: `authority replace --end`")


def status(installation: Installation = None, folder: DaemonFolders = None, as_json: AsJson = False) -> None:
    """Say which TLS certificates there are, until when, and which were taken back. Exit status 7: one in use is none.

    With --installation all that the authority has issued; with --folder what these daemons have.
    """
    from veilmatch.server.installation.tls.renewing import held_by, home_of

    found = configurations(installation, folder)
    home = home_of(installation) if installation is not None else None
    held = held_by(found)
    issued = home.issued() if home is not None else []
    wrong = [one.name for one in held if _state(one.certificate, _revoked(one, issued)) in _BAD]
    if as_json:
        document = {"issued": [_document(one) for one in issued], "held": [_held(one, issued) for one in held]}
        if home is not None:
            document |= {"authorities": [_authority(one) for one in home.authorities()]}
        show_json(document, done=_READ)
    else:
        show_tables(*_tables(home, issued, held), done=_READ)
    raise typer.Exit(_WRONG if wrong else 0)


# -- what is said ------------------------------------------------------------------------------

_BAD = ("ended", "revoked", "not valid yet")
_SOON = datetime.timedelta(days=60)


def _state(certificate: x509.Certificate, revoked: bool) -> str:
    now = datetime.datetime.now(datetime.UTC)
    left = certificate.not_valid_after_utc - now
    if revoked:
        return "revoked"
    if left <= datetime.timedelta(0):
        return "ended"
    if certificate.not_valid_before_utc > now:
        return "not valid yet"
    return f"renew it: {left.days} days left" if left < _SOON else "good"


def _revoked(held: Held, issued: list[Issued]) -> bool:
    return any(one.certificate == held.certificate and one.revoked_at is not None for one in issued)


def _tables(home: AuthorityFolder | None, issued: list[Issued], held: list[Held]) -> list[Table]:
    tables = []
    if home is not None:
        table = Table("authority", "until", "state", title="authorities")
        for one in home.authorities():
            table.add_row(*map(Text, (one.subject.rfc4514_string(), _day(one), _state(one, revoked=False))))
        tables.append(table)
        table = Table("party", "serial", "until", "state", title="issued")
        for each in issued:
            state = _state(each.certificate, each.revoked_at is not None)
            table.add_row(*map(Text, (each.name, each.serial, _day(each.certificate), state)))
        tables.append(table)
    table = Table("party", "file", "until", "authorities", "revoked", "state", title="in folders here")
    for own in held:
        lists = "no list" if own.lists is None else str(own.lists)
        state = _state(own.certificate, _revoked(own, issued))
        table.add_row(*map(Text, (own.name, str(own.file), _day(own.certificate), str(own.trusted), lists, state)))
    return [*tables, table]


def _document(one: Issued) -> dict[str, Any]:
    return {
        "party": one.name,
        "serial": one.serial,
        "not_after": _seconds(one.certificate.not_valid_after_utc),
        "revoked_at": None if one.revoked_at is None else _seconds(one.revoked_at),
        "state": _state(one.certificate, one.revoked_at is not None),
    }


def _held(one: Held, issued: list[Issued]) -> dict[str, Any]:
    return {
        "party": one.name,
        "file": str(one.file),
        "serial": f"{one.certificate.serial_number:040x}",
        "not_after": _seconds(one.certificate.not_valid_after_utc),
        "authorities": one.trusted,
        "revoked_known": one.lists,
        "state": _state(one.certificate, _revoked(one, issued)),
    }


def _authority(certificate: x509.Certificate) -> dict[str, Any]:
    return {
        "name": certificate.subject.rfc4514_string(),
        "not_after": _seconds(certificate.not_valid_after_utc),
        "state": _state(certificate, revoked=False),
    }


def _day(certificate: x509.Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"


def _seconds(at: datetime.datetime) -> int:
    return int(at.timestamp())
