"""`veilmatch recipient`: relying parties to whom answers are sealed.

new       at the relying party: its key, and a request for a certificate
certify   run by an organisation: shows what it signs, and signs
issue     what two organisations signed, in one file
open      at the relying party: what a device brought, opened and checked
revoke    at an organisation: its daemons seal nothing more to a recipient
revoked   whom they refuse
"""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from veilmatch.common.output import say, say_tables, show, show_json, show_tables
from veilmatch.server.commands._configurations import DaemonFolders, Installation, configurations
from veilmatch.server.commands._lists import Config, apart, signed, tell
from veilmatch.server.commands._lists import PassphraseFile as ListPassphraseFile

if TYPE_CHECKING:
    from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate
    from veilmatch.relying import Statement
    from veilmatch.server.installation.certifying.revocation import Revocation

Folder = Annotated[Path, typer.Option(help="Folder of the recipient.", readable=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
#: No document is read further.
_READ = 1 << 26


def register(app: typer.Typer) -> None:
    """Add the commands."""
    recipient = typer.Typer(help="Relying parties to whom answers are sealed.", no_args_is_help=True)
    for name, command in (
        ("new", new), ("certify", certify), ("issue", issue), ("open", open_answer), ("revoke", revoke),
        ("revoked", show_revoked),
    ):  # fmt: skip
        recipient.command(name)(command)
    app.add_typer(recipient, name="recipient")


def new(
    name: Annotated[str, typer.Argument(help="Name of the recipient, for people and logs.")],
    public: Annotated[Path, typer.Option(help="public.json of the installation.", readable=False)],
    folder: Folder = Path("recipient"),
    days: Annotated[int, typer.Option(min=1, help="How long its certificate is to be valid.")] = 365,
    as_json: AsJson = False,
) -> None:
    """Make a recipient's folder with its key, and recipient.cert, which two organisations then have to sign.

    In a folder that has a key, a new request for that key.
    """
    from veilmatch.relying.folder import CERTIFICATE, request_certificate

    made = request_certificate(folder, name, public, days, time.time())
    file = folder / CERTIFICATE
    if as_json:
        show_json(_document(made) | {"file": str(file)}, done=f"{file} was made")
        return
    _tell("requested", made)
    say(f"two organisations have to sign {file}: `veilmatch recipient certify` at each, then `recipient issue`")


def certify(
    file: Annotated[Path, typer.Argument(help="recipient.cert, as `recipient new` made it.", readable=False)],
    config: Annotated[Path, typer.Option(help="keyholder.toml of the organisation.", readable=False)] = Path(
        "keyholder.toml"
    ),
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File with the passphrase; else as the daemon reads it.", readable=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign a recipient's certificate for an organisation, with its signing key.

    Compare what is shown with what was agreed: whoever has the private key to this public key learns the answers that
    are sealed to it.
    """
    from veilmatch.common.public_file import read_public_file
    from veilmatch.server.config import KeyHolderSettings
    from veilmatch.server.installation.certifying.recipients import certifiable
    from veilmatch.server.installation.certifying.recipients import certify as sign
    from veilmatch.server.installation.organisation_file import unseal_organisation
    from veilmatch.server.installation.passphrase import read_passphrase

    settings = KeyHolderSettings.load(config)
    _tell(f"organisation {settings.party} signs", certifiable(file, settings))
    passphrase = read_passphrase(passphrase_file or settings.passphrase_file)
    public = read_public_file(settings.public_key)
    signed = sign(file, settings, unseal_organisation(settings.organisation_key, settings.party, public, passphrase))
    if as_json:
        show_json(_document(signed) | {"file": str(file)}, done=f"{file} was signed")
        return
    say(f"{file} is signed by {', '.join(signed.organisations)}")


def issue(
    files: Annotated[
        list[Path], typer.Argument(help="recipient.cert, as each organisation signed it.", readable=False)
    ],
    public: Annotated[Path, typer.Option(help="public.json of the installation.", readable=False)],
    out: Annotated[Path, typer.Option(help="Where the certificate goes.", readable=False)] = Path("recipient.cert"),
    as_json: AsJson = False,
) -> None:
    """Join what two organisations have signed into one certificate: for the recipient, and for its devices."""
    from veilmatch.common.public_file import read_public_file
    from veilmatch.server.installation.certifying.recipients import issue as join

    joined = join(files, read_public_file(public), out)
    if as_json:
        show_json(_document(joined) | {"file": str(out)}, done=f"{out} was made")
        return
    _tell("issued", joined)
    say(f"{out} goes into the recipient's folder, and to every device that is to ask for it")


def open_answer(
    answer: Annotated[Path, typer.Argument(help="What the device brought.", readable=False)],
    folder: Folder = Path("recipient"),
    subject: Annotated[str | None, typer.Option(help="Who it has to be about; needed for verify.")] = None,
    challenge: Annotated[str | None, typer.Option(help="What the device was given for this question, in hex.")] = None,
    gallery: Annotated[str | None, typer.Option(help="The gallery that has to be asked.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Lowest cosine that counts.")] = None,
    views: Annotated[int, typer.Option(min=1, help="Most photos of the face that it may be about.")] = 1,
    assured: Annotated[bool, typer.Option("--assured", help="Only what all three pairs state.")] = False,
    card: Annotated[bool, typer.Option("--card", help="An answer about the card of --subject, and no other.")] = False,
    as_json: AsJson = False,
) -> None:
    """Open a sealed answer and check it; exit status 0 is a match, 1 is none. Each answer opens once."""
    from veilmatch.crypto.errors import ConfigurationError, InvalidInputError
    from veilmatch.relying import Statement
    from veilmatch.relying.folder import open_folder

    trust, key, seen = open_folder(folder)
    try:
        with answer.open("rb") as file:
            data = file.read(_READ + 1)
        expected = None if challenge is None else bytes.fromhex(challenge)
    except OSError as error:
        raise ConfigurationError("the answer cannot be read", got=f"{answer}: {error.strerror}") from None
    except ValueError:
        raise InvalidInputError("a challenge is hex digits", expected="two for each byte") from None
    found = Statement.open(
        data, trust, key, seen=seen, expect_subject=subject, expect_challenge=expected, expect_gallery=gallery,
        lowest_threshold=threshold, max_views=views, assured=assured, expect_operation="present" if card else None,
    )  # fmt: skip
    done = f"{answer} was opened, and does not open again"
    if as_json:
        show_json(_statement(found), done=done)
    else:
        names = found.subjects if found.operation == "candidates" else (found.subject,) if found.subject else ()
        show(f"{'match' if found else 'no match'}: {', '.join(names)}".rstrip(": "), done=done)
        say(f"{found.operation} at cosine {found.cosine} in {found.gallery}, asked by {found.device}")
    raise typer.Exit(0 if found else 1)


def revoke(
    which: Annotated[str, typer.Argument(help="recipient.cert, or the id of that certificate: 64 hex digits.")],
    installation: Installation = None,
    folder: DaemonFolders = None,
    config: Config = None,
    passphrase_file: ListPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Have a recipient's certificate refused, without a restart.

    With --config an organisation signs that for all servers, which give it each other: they refuse the recipient once a
    second one has. With --folder or --installation these daemons refuse it from the next request on; two organisations
    are enough, as every request needs one of them. An audit log has the id (`recipient_id`).
    """
    if config is not None:
        if installation is not None or folder:
            raise apart()
        _revoke_everywhere(which, config, passphrase_file, as_json)
        return
    from veilmatch.server.installation.certifying.revocation import revoke as refuse

    done = refuse(which, configurations(installation, folder))
    if as_json:
        show_json(_revocation(done), done="the recipient was revoked")
        return
    say(f"{_named(done)} is refused by {', '.join(done.at)}")


def _revoke_everywhere(which: str, config: Path, passphrase_file: Path | None, as_json: bool) -> None:
    from veilmatch.common.public_file import read_public_file
    from veilmatch.server.admission.recipients import check_signatures
    from veilmatch.server.config import KeyHolderSettings
    from veilmatch.server.installation.certifying.recipients import read_recipient
    from veilmatch.server.installation.certifying.revocation_lists import is_id

    settings = KeyHolderSettings.load(config)
    if is_id(which):
        id_, name = bytes.fromhex(which), which
    else:
        found = read_recipient(Path(which))
        check_signatures(found, read_public_file(settings.public_key))
        id_, name = found.statement.id, f"{found.statement.recipient} ({found.statement.id.hex()[:16]})"
    done = signed([id_], settings, passphrase_file)
    if as_json:
        show_json(done, done="the revocation was signed")
        return
    tell([name], done)


def show_revoked(installation: Installation = None, folder: DaemonFolders = None, as_json: AsJson = False) -> None:
    """List the recipients that daemons refuse."""
    from veilmatch.server.installation.certifying.revocation import revocations

    found, done = revocations(configurations(installation, folder)), "the revocations were read"
    if as_json:
        show_json({"revoked": [_revocation(one) for one in found]}, done=done)
        return
    table = Table("recipient", "until", "id", "at", title="revoked recipients")
    for one in found:
        said = one.certificate.statement if one.certificate else None
        until = _date(said.not_after_s) if said else ""
        table.add_row(*map(Text, (said.recipient if said else "", until, one.id.hex(), ", ".join(one.at))))
    show_tables(table, done=done)


# -- printing ---------------------------------------------------------------------------------


def _document(certificate: RecipientCertificate) -> dict[str, Any]:
    said = certificate.statement
    return {
        "recipient": said.recipient,
        "public_key": said.public_key.hex(),
        "not_before": said.not_before_s,
        "not_after": said.not_after_s,
        "serial": said.serial.hex(),
        "id": said.id.hex(),
        "organisations": list(certificate.organisations),
    }


def _revocation(one: Revocation) -> dict[str, Any]:
    said = _document(one.certificate) if one.certificate else {}
    return said | {"id": one.id.hex(), "daemons": list(one.at)}


def _named(one: Revocation) -> str:
    return f"{one.certificate.statement.recipient} ({one.id.hex()})" if one.certificate else one.id.hex()


def _statement(found: Statement) -> dict[str, Any]:
    return {
        "match": found.decision,
        "operation": found.operation,
        "subject": found.subject,
        "subjects": list(found.subjects),
        "threshold": found.threshold,
        "cosine": found.cosine,
        "gallery": found.gallery,
        "sequence": found.sequence,
        "chain": found.chain.hex(),
        "pairs": list(found.pairs),
        "requests": [request.hex() for request in found.requests],
        "device": found.device,
        "challenge": found.challenge.hex(),
        "valid": found.valid,
        "issued_at": found.issued_at_s,
        "expires_at": found.expires_at_s,
        "views": found.views,
    }


def _tell(title: str, certificate: RecipientCertificate) -> None:
    said, table = certificate.statement, Table("", "", title=title, show_header=False)
    for what, value in (
        ("recipient", said.recipient),
        ("from", _date(said.not_before_s)),
        ("until", _date(said.not_after_s)),
        ("public key", said.public_key.hex()),
        ("installation", said.installation.hex()),
        ("serial", said.serial.hex()),
        ("id", said.id.hex()),
        ("signed by", ", ".join(certificate.organisations) or "nobody"),
    ):
        table.add_row(what, Text(value, overflow="fold"))
    say_tables(table)


def _date(time_s: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return f"{time_s} s after 1970"
