"""The images of one moment: a colour photo, and what other sensors saw at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Shot:
    """A photo with what an infrared and a depth sensor saw: goes wherever the SDK takes a photo.

    Only the colour photo is embedded. The others have its size and its view, pixel by pixel, as such cameras deliver
    them, and are grey; depth of more than eight bits is scaled as any photo is.
    """

    colour: ImageSource
    infrared: ImageSource | None = None
    depth: ImageSource | None = None
