"""A device of the previous release, which speaks as the first one, inside a process of the nursery: no command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

#: What it is to do, as JSON: the configuration, the pair, and calls of the client with their arguments.
WORK_VARIABLE = "TESTS_DEVICE_WORK"


def install() -> NoReturn:
    """Do it, and print what the client has returned, as JSON."""
    from tests.upgrade import first
    from veilmatch.client.client import Client
    from veilmatch.client.config import DeviceSettings

    first.install()
    work = json.loads(os.environ[WORK_VARIABLE])
    settings = DeviceSettings.load(Path(work["config"])).model_copy(update={"pairs": (work["pair"],)})
    with Client(settings) as client:
        print(json.dumps([_done(client, *call) for call in work["calls"]]))
    raise SystemExit(0)


def _done(client: Any, name: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    given = [np.array(one) if isinstance(one, list) else one for one in arguments]
    result = getattr(client, name)(*given, **options)
    field = {"verify_embedding": "decision", "identify_embedding": "subject", "erase": "templates"}.get(name)
    return None if field is None else getattr(result, field)
