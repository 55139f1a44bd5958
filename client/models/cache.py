"""The cache: verified files in directories that appear whole or not at all.

A bundle is written to a staging directory, flushed to disk and renamed, so an interrupted
installation leaves nothing that looks installed. Beside its files lies SHA256SUMS (the format of the
tool of that name: `sha256sum -c SHA256SUMS`), itself pinned in the catalogue; every read checks
the file against it. Two installations at once wait for each other.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_dir

from veilmatch.client import extras
from veilmatch.client.models.catalogue import Bundle
from veilmatch.common.system import flush_folder
from veilmatch.crypto.errors import ConfigurationError, ModelError

SUMS = "SHA256SUMS"
#: Names the cache directory.
VARIABLE = "VEILMATCH_CACHE"
_STAGING = ".staging-"


def cache_dir() -> Path:
    """Return VEILMATCH_CACHE if set, else veilmatch in XDG_CACHE_HOME, else ~/.cache/veilmatch; absolute.

    Raises ConfigurationError, naming the variable, where none of them says a place: a service without a home.
    """
    own = os.environ.get(VARIABLE)
    try:
        path = Path(own).expanduser() if own else Path(user_cache_dir("veilmatch"))
    except RuntimeError:
        path = Path("~")
    if path.parts[:1] == ("~",):  # what some versions of the library leave, in place of raising
        raise ConfigurationError(
            "there is no folder for the face models: this user has no home directory",
            got=f"{VARIABLE}={own}" if own else "neither HOME nor XDG_CACHE_HOME",
            expected=f"{VARIABLE} set to a folder",
        )
    return path.absolute()


def sha256(data: bytes) -> str:
    """Return the sha256 in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sums_file(files: Mapping[str, bytes]) -> bytes:
    """Return the SHA256SUMS of files (name -> content), sorted by name."""
    return "".join(f"{sha256(files[name])}  {name}\n" for name in sorted(files)).encode()


def read_file(bundle: Bundle, name: str) -> bytes:
    """Return the content of an installed file, verified against the pin of its bundle.

    Raises ModelError if it is not installed or not the pinned file; the message says what to run.
    """
    data = _read(bundle, name)
    if _installed_sums(bundle).get(name) != sha256(data):
        raise _altered(bundle, name)
    return data


def is_installed(bundle: Bundle) -> bool:
    """Return whether every file of the bundle is there and is the pinned one. Errors: `cache_dir`."""
    return problem(bundle) is None


def problem(bundle: Bundle) -> ModelError | None:
    """Return what is wrong with a bundle, or None if it is installed. Errors: `cache_dir`."""
    try:
        for member in bundle.members:
            read_file(bundle, member.name)
    except ModelError as error:
        return error
    return None


def store(bundle: Bundle, files: Mapping[str, bytes]) -> None:
    """Put files (name -> content) into the cache as the bundle, replacing a damaged one.

    Call with `exclusive` held. Raises ModelError if they are not the pinned files or cannot be written.
    """
    sums = sums_file(files)
    if sha256(sums) != bundle.sums_sha256:
        raise ModelError(
            f"the files prepared for {bundle.name} are not the pinned ones",
            got=f"SHA256SUMS with sha256 {sha256(sums)}",
            expected=bundle.sums_sha256,
            hint=NOT_PINNED,
        )
    root = cache_dir()
    try:
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=root))
        for name, data in {**files, SUMS: sums}.items():
            _write_durably(staging / name, data)
        for directory in (*(d for d in staging.rglob("*") if d.is_dir()), staging):
            flush_folder(directory)
        target = root / bundle.directory
        if target.exists():
            target.rename(Path(tempfile.mkdtemp(prefix=_STAGING, dir=root)) / "damaged")
        staging.rename(target)
        flush_folder(root)
    except OSError as error:
        raise _unwritable(root, error) from error
    _remove_staging(root)


def store_file(name: Path, data: bytes) -> None:
    """Put one file into the cache, whole or not at all. Call with `exclusive` held. Errors: `store`."""
    root = cache_dir()
    try:
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=root))
        _write_durably(staging / name.name, data)
        (root / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (staging / name.name).replace(root / name)
        flush_folder((root / name).parent)
    except OSError as error:
        raise _unwritable(root, error) from error
    _remove_staging(root)


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold the cache's lock, waiting for another installation, and clear away what an interrupted one left.

    Raises ModelError if the cache directory cannot be created or written.
    """
    root = cache_dir()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(root / ".lock")
        lock.acquire()
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        _remove_staging(root)
        yield
    finally:
        lock.release()


def _installed_sums(bundle: Bundle) -> dict[str, str]:
    sums = _read(bundle, SUMS)
    if sha256(sums) != bundle.sums_sha256:
        raise _altered(bundle, SUMS)
    lines = (line.split("  ", 1) for line in sums.decode().splitlines())
    return {name: digest for digest, name in lines}


def _read(bundle: Bundle, name: str) -> bytes:
    path = cache_dir() / bundle.directory / name
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(
            f"{bundle.name}/{name} is not installed", got=f"nothing at {path}", expected=installing(bundle)
        ) from error
    except OSError as error:
        raise ModelError(
            f"{bundle.name}/{name} cannot be read",
            got=f"{path}: {error.strerror}",
            expected=f"{VARIABLE} set to a folder that this user may read",
            hint=f"Let this user read that file, or set {VARIABLE} to its own folder and install the models there.",
        ) from error


def _altered(bundle: Bundle, name: str) -> ModelError:
    return ModelError(f"{bundle.name}/{name} is not the pinned file", expected=installing(bundle))


#: Installing again gives the same.
NOT_PINNED = (
    "Look which package index this comes from: what it sends is not what was published. Or copy the cache of another"
    " machine."
)


def installing(bundle: Bundle) -> str:
    """Return what to run to install the bundle, the extra that it takes first if that is missing."""
    first = "" if not extras.missing("models") else f"{extras.command('models')}, then "
    return f"{first}veilmatch models install{install_option(bundle)}"


def install_option(bundle: Bundle) -> str:
    """Return the option of `veilmatch models install` that the bundle takes, after a space; nothing for the models."""
    return {"models": "", "evaluation": " --evaluation", "mesh": " --mesh"}.get(bundle.name, " --photos")


def _write_durably(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _remove_staging(root: Path) -> None:
    for leftover in root.glob(_STAGING + "*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _unwritable(root: Path, error: OSError) -> ModelError:
    return ModelError(
        "the cache directory cannot be written",
        got=f"{root}: {error.strerror or type(error).__name__}",
        expected=f"{VARIABLE} set to a folder that can be, and room in it",
        hint=f"Set {VARIABLE} to a folder that this user may write, where there is room.",
    )
