"""Options that several commands have, and the client that they make of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from veilmatch.crypto.errors import ImageError, InvalidInputError

if TYPE_CHECKING:
    # Each command and each daemon imports this module, and few of them the SDK.
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.client.client import Client
    from veilmatch.client.results import Candidates, IdentifyResult, Verification

Config = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="VEILMATCH_CONFIG", help="Configuration of this device.", readable=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Photo = Annotated[str, typer.Argument(help="A photo with one face; - for standard input.")]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", help="Cosine from which two faces match, above 0 up to 1; default: the configuration."),
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", help="Seconds to wait for the servers; default: the configuration."),
]
Assured = Annotated[
    bool,
    typer.Option(
        "--assured",
        help="Ask all three pairs of organisations, and answer only if they say the same; default: the configuration.",
    ),
]

DEFAULT_CONFIG = Path("device.toml")


def open_client(config: Path) -> Client:
    """Return the client of a configuration; the commands' one way to the servers."""
    from veilmatch.client.client import Client

    return Client.from_config(config)


def given_photos(photos: Sequence[str]) -> list[ImageSource]:
    """Return the photos that arguments name; `-` is one on standard input, as a file or as a data URL.

    Raises InvalidInputError if standard input is named twice, ImageError if nothing or too much comes from there.
    """
    if photos.count("-") > 1:
        raise InvalidInputError("standard input is one photo", got=f"- {photos.count('-')} times", expected="once")
    return [_standard_input() if photo == "-" else photo for photo in photos]


def _standard_input() -> ImageSource:
    from veilmatch.client.capture.image import MAX_IMAGE_BYTES
    from veilmatch.client.capture.source import open_photo

    try:
        data = open_photo(sys.stdin.fileno(), 2 * MAX_IMAGE_BYTES, "standard input")
    except (AttributeError, OSError):  # none, or one that is no file, as in tests and notebooks
        data = b"" if sys.stdin is None else sys.stdin.buffer.read(2 * MAX_IMAGE_BYTES + 1)
    if not data:
        raise ImageError(
            "there is no photo on standard input",
            got="0 bytes",
            expected="the bytes of an image file, or a data URL",
            hint="See what the command before the pipe prints: is its path right?",
        )
    return data.decode("ascii", "replace") if data[:5].lower() == b"data:" else data


def match_document(result: Verification | Candidates | IdentifyResult) -> dict[str, Any]:
    """Return what every query says in JSON; shares in hex, sizes in bytes, times in seconds."""
    return {
        "sequence": result.sequence,
        "pair": result.pair,
        "shares": [share.hex() for share in result.shares],
        "probe_bytes": result.probe_bytes,
        "request_id": result.request_id,
        "assured": result.assured,
        "request_ids": list(result.request_ids),
        "timings": {name: round(value, 6) for name, value in asdict(result.timings).items()},
    }
