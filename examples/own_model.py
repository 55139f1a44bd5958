"""A face model of your own: described in device.toml, pinned by its hash, and used like the one that comes with it.

python examples/own_model.py model.onnx ada-1.jpg ada-2.jpg bob.jpg     # enrols the first photo, compares the others

`DESCRIPTION` is what the model's publisher says of it: docs/models.md has the well-known ones. Here it is that of the
second embedder (`veilmatch models install --evaluation`). All organisations are made on this machine for as long as
this runs, with a key that protects nobody.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

from veilmatch import Client, ModelMismatchError
from veilmatch.testing import LocalInstallation, made_up_embedding

#: Its output has 512 numbers, so the installation needs a parameter set of that dimension.
PARAMETERS = "UNSAFE-d512-s120-c18-l46-n1024"
DESCRIPTION: Mapping[str, object] = {"dimension": 512, "channels": "bgr", "mean": 127.5, "scale": 127.5}


def described(model: Path, description: Mapping[str, object]) -> str:
    """Return [capture.embedder] of this model, as text for device.toml. Another file is refused from then on."""
    fields = {"name": model.stem, "file": str(model.absolute()), **description}
    fields["sha256"] = hashlib.sha256(model.read_bytes()).hexdigest()
    lines = [f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}" for name, value in fields.items()]
    return "\n".join(["[capture.embedder]", *lines, ""])


def configured(installation: LocalInstallation, model: Path, description: Mapping[str, object]) -> Path:
    """Write a configuration of the device with this model, beside the one that it has, and return it."""
    usual = installation.device_config()
    own = usual.with_name("own-model.toml")
    own.write_text(f"{usual.read_text()}\n{described(model, description)}")
    return own


def main(
    installation: LocalInstallation,
    model: Path,
    *photos: Path,
    description: Mapping[str, object] = DESCRIPTION,
) -> None:
    """Enrol the first photo, and say of each other whether it shows the same person."""
    first, *others = photos
    with Client.from_config(configured(installation, model, description)) as client:
        client.enrol("first", first)
        for photo in others:
            answer = "the same person" if client.verify("first", photo) else "somebody else"
            print(f"{photo.name}: {answer}")
        # The gallery is that model's from now on: what another one says of a face cannot be compared with it.
        stranger = made_up_embedding("first", dimension=int(str(description["dimension"])))
        try:
            client.verify_embedding("first", stranger, model="another model")
        except ModelMismatchError as error:
            print(f"another model is refused: {error.message}")


if __name__ == "__main__":
    with LocalInstallation(parameters=PARAMETERS) as made:
        main(made, *map(Path, sys.argv[1:]))
