"""`veilmatch doctor`: what this installation runs on, what it lacks, and what to do about it."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from veilmatch.client import extras
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.runtime import require_pillow
from veilmatch.client.commands.base.options import Json
from veilmatch.client.commands.base.servers import Servers, servers_of
from veilmatch.client.endings import certificates_of_device
from veilmatch.client.models import MODELS, cache
from veilmatch.common.output import show_json, show_tables
from veilmatch.common.pem import date
from veilmatch.crypto.errors import ConfigurationError, DeviceCertificateError, DeviceRightsError, VeilmatchError
from veilmatch.crypto.health import DAY_S, WARNING_DAYS, Ending
from veilmatch.crypto.rings.choice import available, choose, kernel_is_built

_DONE = "this machine was looked at"


class Role(StrEnum):
    """What a machine is there for. DEVICE takes photos; EMBEDDINGS is a device with a face model of its own."""

    DEVICE = "device"
    EMBEDDINGS = "embeddings"
    SERVER = "server"


#: Files that say what a machine is there for, where somebody stands.
_DEVICE = "device.toml"
#: What the server's side looks at in a folder, found by entry points: neither side imports the other.
_CHECKS = "veilmatch.doctor"
_CONFIGURATIONS = {_DEVICE: Role.DEVICE, "matcher.toml": Role.SERVER, "keyholder.toml": Role.SERVER}

Roles = Annotated[
    list[Role] | None,
    typer.Option("--for", help="What this machine is to do. Default: what is installed, or configured in this folder."),
]


@dataclass(frozen=True)
class Problem:
    """Something that a role cannot do without. advice: what to do about it."""

    part: str
    finding: str
    advice: str


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("doctor")(doctor)


def doctor(roles: Roles = None, as_json: Json = False) -> None:
    """Say which arithmetic runs and why, which parts are installed, whether the face models are there, and what to do.

    With a device.toml in this folder, also which of its matchers answer, and so which pairs can serve, and until when
    its certificates count. Exit status 0
    if this machine can do what it is there for (a device with photos, a device with embeddings, a server), else 3.
    """
    found = diagnose(roles or [])
    if as_json:
        show_json(found, done=_DONE)
    else:
        _print(found)
    raise typer.Exit(ConfigurationError.exit_status if found["problems"] else 0)


def diagnose(roles: list[Role]) -> dict[str, Any]:
    """Return the findings. roles: none of them for those that can be told. problems: what keeps them from working."""
    chosen = roles or _roles_here()
    problems = _problems(chosen)
    servers, lacking = _servers(chosen)
    certificates, unusable = _certificates(chosen)
    problems += [one for one in (lacking, unusable) if one is not None]
    try:
        choice = choose()
        backend, reason = choice.backend, choice.reason
    except ConfigurationError:
        backend, reason = None, ""
    return {
        "version": _version("veilmatch"),
        "python": platform.python_version(),
        "processor": _processor(),
        "roles": [str(role) for role in chosen],
        "backend": backend,
        "reason": reason,
        "backends": list(available()),
        "native_kernel": kernel_is_built(),
        "gmpy2": _version("gmpy2"),
        "extras": {extra: not extras.missing(extra) for extra in extras.EXTRAS},
        "cache": _cache(),
        "models": _models() is None,
        "matchers": None if servers is None else servers.matchers,
        "pairs": None if servers is None else servers.pairs,
        "certificates": [{"of": one.of, "file": one.file, "not_after": int(one.end_s)} for one in certificates],
        "problems": [asdict(problem) for problem in problems],
    }


def _roles_here() -> list[Role]:
    """Return what the machine is there for, by the files here and by whatever of an extra is installed."""
    roles = {role for name, role in _CONFIGURATIONS.items() if Path(name).is_file()}
    roles |= {Role(extra) for extra in ("device", "server") if _something_of(extra)}
    return sorted(roles)


def _something_of(extra: str) -> bool:
    """Return whether a library is installed that no other extra has."""
    elsewhere = {module for name, other in extras.EXTRAS.items() if name != extra for module in other.modules}
    own = set(extras.EXTRAS[extra].modules) - elsewhere
    return bool(own - set(extras.missing(extra)))


def _problems(roles: list[Role]) -> list[Problem]:
    found = [_attempt("arithmetic", choose)]
    if not roles:
        found.append(
            Problem(
                "purpose",
                "nothing installed here takes photos or serves",
                f"{extras.command('device')}, or {extras.command('server')}. A device with a face model of its own"
                " needs neither: veilmatch doctor --for embeddings",
            )
        )
    if Role.DEVICE in roles:
        found.append(_attempt("photos", _prepare_for_photos))
    if Role.SERVER in roles:
        found.append(_attempt("server", _import_server_libraries))
        if found[-1] is None:
            found += [_attempt(one.name, partial(one.load(), Path())) for one in entry_points(group=_CHECKS)]
    return [problem for problem in found if problem is not None]


def _servers(roles: list[Role]) -> tuple[Servers | None, Problem | None]:
    """Return how the matchers of this folder's device.toml are, and what keeps the device from being served."""
    found: list[Servers] = []

    def look() -> None:
        found.append(servers_of(Path(_DEVICE)))
        found[0].require_a_pair()

    if not _is_device(roles):
        return None, None
    problem = _attempt("servers", look)
    return (found[0] if found else None), problem


def _certificates(roles: list[Role]) -> tuple[list[Ending], Problem | None]:
    """Return when the certificates of this folder's device end, and what is wrong with the one of its rights.

    What is wrong with its TLS files is found by asking servers.
    """
    found: list[Ending] = []

    def look() -> None:
        from veilmatch.client.certificate import OwnCertificate
        from veilmatch.client.config import DeviceSettings
        from veilmatch.client.wire.signing import DeviceKey
        from veilmatch.common.public_file import read_public_file

        settings = DeviceSettings.load(Path(_DEVICE))
        found.extend(certificates_of_device(settings))
        if settings.certificate is not None:
            key = DeviceKey.from_file(settings.signing_key).public_bytes()
            public = read_public_file(settings.public_key)
            own = OwnCertificate.read(settings.certificate, settings.device, key, public)
            if own is None:
                raise DeviceCertificateError(
                    "the certificate of the device is not signed by two organisations yet",
                    expected="`veilmatch device certify` at each of two",
                )
            try:
                own.statement.require_valid(time.time())
            except DeviceRightsError as error:
                renew = "`veilmatch device renew`, for two organisations to sign"
                raise DeviceCertificateError(error.message, got=error.got, expected=renew) from None

    if not _is_device(roles):
        return [], None
    return found, _attempt("certificate", look)


def _is_device(roles: list[Role]) -> bool:
    return bool({Role.DEVICE, Role.EMBEDDINGS} & set(roles)) and Path(_DEVICE).is_file()


def _attempt(part: str, action: Any) -> Problem | None:
    try:
        action()
    except VeilmatchError as error:
        finding = f"{error.message}; got {error.got}" if error.got else error.message
        return Problem(part, finding, error.expected or "")
    return None


def _prepare_for_photos() -> None:
    """Do what the first photo would make happen: load libraries and models."""
    require_pillow()
    CapturePipeline.default()


def _import_server_libraries() -> None:
    with extras.needed("server"):
        for module in extras.EXTRAS["server"].modules:
            import_module(module)


def _cache() -> str | None:
    try:
        return str(cache.cache_dir())
    except ConfigurationError:
        return None


def _models() -> VeilmatchError | None:
    """Return what is wrong with the face models, or None if they are installed."""
    try:
        return cache.problem(MODELS)
    except ConfigurationError as error:
        return error


def _print(found: dict[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    rows = [
        ("Veilmatch", f"{found['version']}, Python {found['python']}, gmpy2 {found['gmpy2']}"),
        ("processor", found["processor"]),
        ("looked at as", ", ".join(found["roles"]) or "nothing in particular"),
        ("arithmetic", f"{found['backend'] or 'none'}: {found['reason'] or 'see below'}"),
        ("backends that run here", ", ".join(found["backends"])),
        (
            "native kernel",
            "built" if found["native_kernel"] else "not built: install a C compiler, then Veilmatch again",
        ),
    ]
    for extra, there in found["extras"].items():
        rows.append((f"extra {extra!r}", "installed" if there else f"not installed: {extras.command(extra)}"))
    rows.append(("cache", found["cache"] or f"none: set {cache.VARIABLE}"))
    rows.append(("face models", "installed" if found["models"] else f"not installed: {cache.installing(MODELS)}"))
    for party, answers in (found["matchers"] or {}).items():
        words = {True: "answers", False: "gives no sign of life", None: "not configured"}
        rows.append((f"matcher {party}", words[answers]))
    if found["pairs"] is not None:
        serving = [pair for pair, serves in found["pairs"].items() if serves]
        rows.append(("pairs whose matchers answer", ", ".join(serving) or "none"))
    for one in found["certificates"]:
        left = int((one["not_after"] - time.time()) // DAY_S)
        advice = f": RENEW IT, {left} days left" if 0 <= left < WARNING_DAYS else ""
        rows.append((one["of"], f"until {date(one['not_after'])}{advice}"))
    for problem in found["problems"]:
        rows.append((f"PROBLEM {problem['part']}", problem["finding"]))
        rows.append(("  what to do", problem["advice"]))
    for name, finding in rows:
        table.add_row(Text(name), Text(finding))  # brackets are no markup
    show_tables(table, done=_DONE)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
