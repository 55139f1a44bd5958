"""`veilmatch device`: certificates of devices, from the request to the daemons.

request   a new device's folder, or a new request for an old one
certify   run by an organisation: shows what it signs, and signs
add       what two organisations signed goes to daemons
issue     all of it at once, where the secrets of two organisations are in one place
renew     a new request for what a device has, before that ends
revoke    at some daemons, or signed by an organisation for all; `revoked` lists what was
"""

from __future__ import annotations

import datetime
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table
from rich.text import Text

from veilmatch.common.output import say, say_tables, show_json, show_tables
from veilmatch.server.commands._configurations import DaemonFolders, Installation, configurations
from veilmatch.server.commands._lists import Config, apart, show_revoked, signed, tell
from veilmatch.server.commands._lists import PassphraseFile as ListPassphraseFile

if TYPE_CHECKING:
    from veilmatch.crypto.keys.device_certificate import DeviceCertificate
    from veilmatch.crypto.parameters import ParameterSet
    from veilmatch.server.installation.certifying.certifier import Grant
    from veilmatch.server.installation.certifying.devices import Listed

Name = Annotated[str, typer.Argument(help="Name of the device.")]
CertificateFile = Annotated[Path, typer.Argument(help="NAME.cert, as `device request` made it.", readable=False)]
Rights = Annotated[
    list[str] | None,
    typer.Option(
        "--right", help="verify, identify, candidates, known, subjects, enrol, bulk, erase or rotate; may be repeated."
    ),
]
Lowests = Annotated[
    list[str] | None,
    typer.Option(
        "--lowest",
        help="Lowest threshold to ask with, a cosine: verify=0.45, or 0.45 for all operations that compare; "
        "0 allows every threshold; 0.40 unless said; may be repeated.",
    ),
]
RecipientOnly = Annotated[
    bool, typer.Option("--recipient-only", help="It may compare for a recipient only, and does not learn the answer.")
]
DemandLiveness = Annotated[
    bool,
    typer.Option("--demand-liveness", help="It may compare only after its detector took the face for a live one."),
]
Detectors = Annotated[
    list[str] | None,
    typer.Option(
        "--detector",
        help="SHA-256 of the model that [liveness] of the device has to have, or package.module:name of its function; "
        "may be repeated. Demands liveness.",
    ),
]
Galleries = Annotated[list[str] | None, typer.Option("--gallery", help="A gallery, or * for all; may be repeated.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="File with the passphrase; else VEILMATCH_PASSPHRASE, else a prompt.", readable=False),
]
_READ = "the certificates were read"
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    device = typer.Typer(help="Devices of an installation, and their certificates.", no_args_is_help=True)
    for name, command in (
        ("request", request), ("certify", certify), ("add", add), ("issue", issue), ("list", show_all),
        ("show", show), ("remove", remove), ("revoke", revoke), ("revoked", show_revoked), ("renew", renew),
    ):  # fmt: skip
        device.command(name)(command)
    app.add_typer(device, name="device")


def request(
    name: Name,
    installation: Annotated[
        Path | None, typer.Option(help="Installation with its authority: a new device.", readable=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the device: a new certificate for its key.", readable=False)
    ] = None,
    right: Rights = None,
    gallery: Galleries = None,
    lowest: Lowests = None,
    recipient_only: RecipientOnly = False,
    demand_liveness: DemandLiveness = False,
    detector: Detectors = None,
    days: Annotated[int, typer.Option(min=1, help="How long it is to be valid.")] = 365,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a device's certificate: NAME.cert in its folder, which two organisations then have to sign.

    With --installation, makes the folder with its TLS certificate and signing key; with --folder, at the device, a
    request for the signing key that is there, or for a new one. Say every right that it needs with --right, and
    every gallery with --gallery (main, unless said), and from which threshold on it may compare with --lowest.
    """
    from veilmatch.crypto.errors import ConfigurationError
    from veilmatch.server.installation.certifying.devices import request_again, request_device
    from veilmatch.server.installation.passphrase import read_passphrase

    if not right:
        raise ConfigurationError("a device without rights is of no use", expected="at least one --right")
    grant = _grant(right, gallery or ["main"], days, lowest, recipient_only, _liveness(demand_liveness, detector))
    if installation is not None and folder is None:
        made = request_device(installation, name, read_passphrase(passphrase_file), grant)
        place = installation / name
    elif folder is not None and installation is None:
        made = request_again(folder, name, grant)
        place = folder
    else:
        raise ConfigurationError("where is the device?", expected="--installation or --folder")
    file, parameters = place / f"{name}.cert", _parameters(place / "public.json")
    if as_json:
        show_json(_document(made, parameters) | {"file": str(file)}, done=f"{file} was made")
        return
    _tell_certificate("requested", made, parameters)
    say(f"two organisations have to sign {file}: `veilmatch device certify` at each")


def certify(
    file: CertificateFile,
    config: Annotated[Path, typer.Option(help="keyholder.toml of the organisation.", readable=False)] = Path(
        "keyholder.toml"
    ),
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File with the passphrase; else as the daemon reads it.", readable=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign a device's certificate for an organisation, with its certification key.

    Compare what is shown with what was agreed: with the passphrase, the organisation vouches for it.
    """
    from veilmatch.server.config import KeyHolderSettings
    from veilmatch.server.installation.certifying.devices import certifiable
    from veilmatch.server.installation.certifying.devices import certify as sign
    from veilmatch.server.installation.passphrase import read_passphrase

    settings = KeyHolderSettings.load(config)
    parameters = _parameters(settings.public_key)
    _tell_certificate(f"organisation {settings.party} signs", certifiable(file, settings), parameters)
    signed = sign(file, settings, read_passphrase(passphrase_file or settings.passphrase_file))
    if as_json:
        show_json(_document(signed, parameters) | {"file": str(file)}, done=f"{file} was signed")
        return
    say(f"{file} is signed by {_joined(signed.organisations)}")


def add(
    file: CertificateFile,
    installation: Installation = None,
    folder: DaemonFolders = None,
    as_json: AsJson = False,
) -> None:
    """Give daemons a device's certificate, in place of an older one. They go by it at once, without a restart."""
    from veilmatch.server.installation.certifying.devices import add_certificate

    names = add_certificate(file, configurations(installation, folder))
    if as_json:
        show_json({"device": file.stem, "daemons": list(names)}, done=f"{file.stem} was added")
        return
    say(f"{file.stem} is known to {_joined(names)}")


def issue(
    directory: Annotated[
        Path, typer.Argument(help="Installation with its authority and two certification keys.", readable=False)
    ],
    name: Name,
    right: Rights = None,
    gallery: Galleries = None,
    lowest: Lowests = None,
    recipient_only: RecipientOnly = False,
    demand_liveness: DemandLiveness = False,
    detector: Detectors = None,
    days: Annotated[int, typer.Option(min=1, help="How long its certificate is valid.")] = 825,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Add a device at once: its folder, and its certificate, signed by two organisations, at the daemons here.

    For development, and for a ceremony's machine: elsewhere no two organisations have their secrets in one place.
    Without --right and --gallery the device may do everything, and compare at thresholds of 0.40 and above.
    """
    from veilmatch.crypto.keys.device_certificate import ALL_GALLERIES
    from veilmatch.crypto.requests import USUAL_RIGHTS
    from veilmatch.server.installation.certifying.devices import issue_device
    from veilmatch.server.installation.passphrase import read_passphrase

    grant = _grant(
        right or list(USUAL_RIGHTS),
        gallery or list(ALL_GALLERIES),
        days,
        lowest,
        recipient_only,
        _liveness(demand_liveness, detector),
    )
    made = issue_device(directory, name, read_passphrase(passphrase_file), grant)
    parameters = _parameters(directory / "public.json")
    if as_json:
        document = _document(made, parameters) | {"directory": str(directory / name)}
        show_json(document, done=f"{name} was added")
        return
    _tell_certificate("added", made, parameters)
    say(f"copy {directory / name} to the device")
    say(f"daemons whose folders are elsewhere need {directory / name / name}.cert: `veilmatch device add` at each")


def show_all(installation: Installation = None, folder: DaemonFolders = None, as_json: AsJson = False) -> None:
    """List the devices that daemons have certificates of, and the certificates that daemons refuse."""
    found = _listed(installation, folder)
    if as_json:
        show_json({"devices": [_listed_document(one) for one in found]}, done=_READ)
        return
    columns = ("rights", "lowest thresholds", "answers", "liveness", "galleries", "until", "signed by")
    table = Table("device", *columns, "at", "state", title="devices")
    for one in found:
        said = _shown(one.certificate, one.parameters) if one.certificate else {}
        cells = [said.get(name, "") for name in columns]
        table.add_row(*map(Text, (one.device, *cells, _joined(one.at), one.refused or "good")))
    show_tables(table, done=_READ)


def show(name: Name, installation: Installation = None, folder: DaemonFolders = None, as_json: AsJson = False) -> None:
    """Show the certificate of a device, as daemons have it."""
    found = [one for one in _listed(installation, folder) if one.device == name]
    if not found:
        raise _unknown(name)
    if as_json:
        show_json({"devices": [_listed_document(one) for one in found]}, done=_READ)
        return
    for one in found:
        table = Table("", "", title=Text(name), show_header=False)
        said = _shown(one.certificate, one.parameters) if one.certificate else {}
        for what, value in (said | {"at": _joined(one.at), "state": one.refused or "good"}).items():
            table.add_row(what, Text(value))
        show_tables(table, done=_READ)


def remove(
    name: Name, installation: Installation = None, folder: DaemonFolders = None, as_json: AsJson = False
) -> None:
    """Take a device's certificate from daemons: they refuse it from its next request on, without a restart."""
    from veilmatch.crypto.keys.device_certificate import check_device_name

    names = configurations(installation, folder).remove(check_device_name(name))
    if not names:
        raise _unknown(name)
    if as_json:
        show_json({"device": name, "daemons": list(names)}, done=f"{name} was removed")
        return
    say(f"{name} is known no more to {_joined(names)}")


def revoke(
    which: Annotated[
        str,
        typer.Argument(
            help="NAME.cert, or the name of a device: what these daemons have of it. With --config also a serial "
            "number, 32 hex digits, or an id, 64."
        ),
    ],
    installation: Installation = None,
    folder: DaemonFolders = None,
    config: Config = None,
    passphrase_file: ListPassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Have a device's certificate refused for good, also where a copy of the file is put back later.

    With --config an organisation signs that for all servers, which give it each other: they refuse the certificate once
    a second one has. With --folder or --installation these daemons refuse it at once, and no others. Another
    certificate of the same device is served: sign one under its old name if it is to go on with another key.
    """
    if config is not None:
        if installation is not None or folder:
            raise apart()
        _revoke_everywhere(which, config, passphrase_file, as_json)
        return
    from veilmatch.server.installation.certifying.devices import revoke_certificate

    revoked, names = revoke_certificate(which, configurations(installation, folder))
    if as_json:
        found = [{"device": one.statement.device, "id": one.statement.id.hex()} for one in revoked]
        show_json({"revoked": found, "daemons": list(names)}, done="the certificates were revoked")
        return
    for one in revoked:
        say(f"{one.statement.device} ({one.statement.id.hex()[:16]}) is refused by {_joined(names)}")


def _revoke_everywhere(which: str, config: Path, passphrase_file: Path | None, as_json: bool) -> None:
    from veilmatch.server.config import KeyHolderSettings
    from veilmatch.server.installation.certifying.revocation_lists import device_ids

    settings = KeyHolderSettings.load(config)
    found = device_ids(which, settings)
    done = signed(found, settings, passphrase_file)
    if as_json:
        show_json(done, done="the revocation was signed")
        return
    tell([f"{one.statement.device} ({id_.hex()[:16]})" if one else id_.hex() for id_, one in found.items()], done)


def renew(
    which: Annotated[str, typer.Argument(help="The certificate in use, NAME.cert; with --installation the NAME.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the new request; made if there is none.", readable=False)
    ] = None,
    installation: Annotated[
        Path | None,
        typer.Option(help="Installation with two certification keys: all of it at once.", readable=False),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="How long it is to be valid, from now.")] = 365,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Ask for the same certificate once more, for longer: same name, key and rights, another serial number.

    With --out, WHICH is the certificate in use, at the device or at any daemon, and the new one is NAME.cert in that
    folder: two organisations have to sign it, then `device add` puts it in the place of the old one, which ends with
    that. With --installation, where two organisations have their secrets in one place as in development, it is signed
    and given to the daemons and the device whose folders are here.
    """
    from veilmatch.crypto.errors import ConfigurationError
    from veilmatch.server.installation.certifying.renewing import renewed

    if (out is None) == (installation is None):
        raise ConfigurationError("where does it go?", expected="--out or --installation")
    if out is None:
        _renew_here(cast(Path, installation), which, passphrase_file, days, as_json)
        return
    file = Path(which)
    made = renewed(file, out, days)
    if as_json:
        show_json(_document(made, None) | {"file": str(out / file.name)}, done=f"{out / file.name} was made")
        return
    _tell_certificate("requested", made, None)
    say(f"two organisations have to sign {out / file.name}: `veilmatch device certify` at each, then `device add`")
    say(f"then put it in the place of {file.name} at the device, which goes on meanwhile")


def _renew_here(directory: Path, name: str, passphrase_file: Path | None, days: int, as_json: bool) -> None:
    from veilmatch.server.installation.certifying.renewing import renew_here
    from veilmatch.server.installation.passphrase import read_passphrase

    made, names = renew_here(directory, name, read_passphrase(passphrase_file), days)
    parameters = _parameters(directory / "public.json")
    if as_json:
        show_json(_document(made, parameters) | {"folders": list(names)}, done=f"{name} was renewed")
        return
    _tell_certificate("renewed", made, parameters)
    say(f"{_joined(names)} have it; elsewhere `veilmatch device add`, and at the device the file itself")


# -- options ----------------------------------------------------------------------------------


def _liveness(demanded: bool, detectors: list[str] | None) -> tuple[str, ...]:
    from veilmatch.crypto.liveness import ANY_DETECTOR, function_id

    if not detectors:
        return ANY_DETECTOR if demanded else ()
    return tuple(sorted({function_id(one).hex() if ":" in one else one.lower() for one in detectors}))


def _grant(
    rights: list[str],
    galleries: list[str],
    days: int,
    lowest: list[str] | None,
    recipient_only: bool,
    liveness: tuple[str, ...],
) -> Grant:
    from veilmatch.crypto.requests import Operation
    from veilmatch.server.installation.certifying.certifier import Grant
    from veilmatch.server.installation.lowest import Lowest

    # What is no right is refused where the certificate is made.
    composed = tuple(unicodedata.normalize("NFC", gallery) for gallery in galleries)  # as in configuration files
    named = cast("tuple[Operation, ...]", tuple(rights))
    return Grant(named, composed, days, Lowest.parse(lowest or ()), recipient_only, liveness)


def _parameters(public_file: Path) -> ParameterSet:
    from veilmatch.common.public_file import read_public_file

    return read_public_file(public_file).public_key.parameters


def _listed(installation: Path | None, folders: list[Path] | None) -> list[Listed]:
    from veilmatch.server.installation.certifying.devices import listed

    return listed(configurations(installation, folders), time.time)


def _unknown(name: str) -> Exception:
    from veilmatch.crypto.errors import ConfigurationError

    return ConfigurationError("no daemon here has a certificate of this device", got=ascii(name[:60]))


# -- printing ---------------------------------------------------------------------------------


def _document(certificate: DeviceCertificate, parameters: ParameterSet | None) -> dict[str, Any]:
    from veilmatch.server.installation.lowest import document

    said = certificate.statement
    return {
        "device": said.device,
        "public_key": said.public_key.hex(),
        "rights": list(said.rights),
        "galleries": list(said.galleries),
        "lowest_thresholds": document(said.lowest, parameters),
        "recipient_only": said.recipient_only,
        "liveness": list(said.liveness),
        "not_before": said.not_before_s,
        "not_after": said.not_after_s,
        "serial": said.serial.hex(),
        "organisations": list(certificate.organisations),
    }


def _listed_document(one: Listed) -> dict[str, Any]:
    said = _document(one.certificate, one.parameters) if one.certificate else {}
    return {"device": one.device} | said | {"daemons": list(one.at), "refused": one.refused}


def _shown(certificate: DeviceCertificate, parameters: ParameterSet | None) -> dict[str, str]:
    from veilmatch.server.installation.lowest import described

    said = certificate.statement
    return {
        "device": said.device,
        "rights": _joined(said.rights),
        "lowest thresholds": described(said.lowest, parameters),
        "answers": "to a recipient only" if said.recipient_only else "to the device or a recipient",
        "liveness": _demanded(said.liveness),
        "galleries": _joined(said.galleries),
        "from": _date(said.not_before_s),
        "until": _date(said.not_after_s),
        "public key": said.public_key.hex(),
        "installation": said.installation.hex(),
        "serial": said.serial.hex(),
        "signed by": _joined(certificate.organisations),
    }


def _tell_certificate(title: str, certificate: DeviceCertificate, parameters: ParameterSet | None) -> None:
    table = Table("", "", title=title, show_header=False)
    for what, value in _shown(certificate, parameters).items():
        table.add_row(what, Text(value, overflow="fold"))
    say_tables(table)


def _demanded(detectors: tuple[str, ...]) -> str:
    from veilmatch.crypto.liveness import ANY_DETECTOR

    if not detectors:
        return "not demanded"
    return "demanded" if detectors == ANY_DETECTOR else f"demanded, of {_joined(detectors)}"


def _date(time_s: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(time_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return f"{time_s} s after 1970"


def _joined(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nobody"
