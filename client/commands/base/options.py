"""Options that several commands have, and the client that they make of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from veilmatch.crypto.errors import ImageError, InvalidInputError

if TYPE_CHECKING:
    # Each command and each daemon imports this module, and few of them the SDK.
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.client.capture.quality.assessment import Quality
    from veilmatch.client.capture.settings import CaptureSettings
    from veilmatch.client.client import Client
    from veilmatch.client.config import DeviceSettings
    from veilmatch.client.liveness.shot import Shot
    from veilmatch.client.results import Candidates, IdentifyResult, Known, Verification

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

Face = Annotated[
    Literal["only", "largest"] | None,
    typer.Option(
        "--face", help="Of several faces in a photo: refuse it, or take the largest; default: the configuration."
    ),
]

Infrared = Annotated[
    str | None, typer.Option("--infrared", help="What an infrared camera saw at the same time, for [liveness].")
]
Depth = Annotated[str | None, typer.Option("--depth", help="What a depth camera saw at the same time, for [liveness].")]

View = Annotated[
    list[str] | None,
    typer.Option("--view", help="Another photo of the same face, which may match in its place; up to four together."),
]
Mirror = Annotated[bool, typer.Option("--mirror", help="The mirror image of each photo as well; it counts as a photo.")]

DEFAULT_CONFIG = Path("device.toml")


def open_client(config: Path, face: Literal["only", "largest"] | None = None) -> Client:
    """Return the client of a configuration; the commands' one way to the servers. face: in place of the configured."""
    from veilmatch.client.client import Client

    return Client(configured(config, face))


def configured(config: Path, face: Literal["only", "largest"] | None = None) -> DeviceSettings:
    """Return the settings of a configuration. face: in place of the configured."""
    from veilmatch.client.config import DeviceSettings

    settings = DeviceSettings.load(config)
    if face is None:
        return settings
    return settings.model_copy(update={"capture": settings.capture.model_copy(update={"face": face})})


def capture_settings(config: Path) -> CaptureSettings:
    """Return [capture] of a configuration; of none that is named and none where it usually is, that of an empty one."""
    from veilmatch.client.capture.settings import CaptureSettings
    from veilmatch.client.config import DeviceSettings

    if config == DEFAULT_CONFIG and not config.exists():
        return CaptureSettings()
    return DeviceSettings.load(config).capture


def given_photos(photos: Sequence[str]) -> list[ImageSource]:
    """Return the photos that arguments name; `-` is one on standard input, as a file or as a data URL.

    Raises InvalidInputError if standard input is named twice, ImageError if nothing or too much comes from there.
    """
    if photos.count("-") > 1:
        raise InvalidInputError("standard input is one photo", got=f"- {photos.count('-')} times", expected="once")
    return [_standard_input() if photo == "-" else photo for photo in photos]


def given_shot(photo: str, infrared: str | None, depth: str | None) -> ImageSource | Shot:
    """Return a photo, with the images of other sensors if there are any. Errors: `given_photos`."""
    from veilmatch.client.liveness.shot import Shot

    (colour,) = given_photos([photo])
    return colour if infrared is None and depth is None else Shot(colour, infrared, depth)


def given_views(photo: str, views: Sequence[str] | None) -> list[ImageSource]:
    """Return the other photos of a face. photo: the first one. Errors: `given_photos`."""
    if "-" in (views or ()) and photo == "-":
        given_photos([photo, *(views or ())])
    return given_photos(views or ())


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


def quality_document(quality: Quality) -> dict[str, Any]:
    """Return what a quality says in JSON: scores 0..100, and reasons as components and as texts."""
    return {
        "good": bool(quality),
        "scores": dict(quality.scores),
        "faces": quality.faces,
        "reasons": [
            {"component": r.component, "score": r.score, "floor": r.floor, "problem": r.problem, "advice": r.advice}
            for r in quality.reasons
        ],
    }


def match_document(result: Verification | Candidates | IdentifyResult | Known) -> dict[str, Any]:
    """Return what every query says in JSON; shares in hex, sizes in bytes, times in seconds."""
    return {
        "sequence": result.sequence,
        "pair": result.pair,
        "shares": [share.hex() for share in result.shares],
        "probe_bytes": result.probe_bytes,
        "request_id": result.request_id,
        "assured": result.assured,
        "request_ids": list(result.request_ids),
        "quality": None if result.quality is None else quality_document(result.quality),
        "timings": {name: round(value, 6) for name, value in asdict(result.timings).items()},
    }
