"""Whether a bill of materials names all that a server needs, with licences, and nothing that its licence forbids here.

python -m tests.deploy.sbom dist/veilmatch-server.cdx.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.deploy.configured import ROOT

#: What states a licence in a file only.
IN_A_FILE = {"protobuf": "BSD-3-Clause"}


def licences(component: dict[str, Any]) -> list[str]:
    """All licences that a component states, as identifier, expression or text."""
    found = []
    for choice in component.get("licenses", ()):
        licence = choice.get("license", {})
        found.append(choice.get("expression") or licence.get("id") or licence.get("name") or "")
    return [one for one in found if one] or [IN_A_FILE[name] for name in IN_A_FILE if name == component["name"]]


def wrong_with(document: dict[str, Any]) -> list[str]:
    """What is wrong with a document of CycloneDX, as an installation with the extra `server`; [] if nothing is."""
    components = {component["name"].lower().replace("_", "-"): component for component in document["components"]}
    text = (ROOT / "pyproject.toml").read_text()
    needed = re.findall(r'^ +"([\w-]+)[>=<\[]', text.split("dependencies = [")[1].split("\n]")[0], re.M)
    needed += re.findall(r'"([\w-]+)[>=<]', text.split("server = [")[1].split("\n]")[0])
    wrong = [f"{name} is missing" for name in needed if name.lower() not in components]
    for name, component in components.items():
        stated = licences(component)
        if not stated:
            wrong.append(f"{name} states no licence")
        # LGPL is a library's, used as one: gmpy2, psycopg.
        if any(re.search(r"(?<!L)(?<!Lesser )\bA?GPL|Affero", one) for one in stated):
            wrong.append(f"{name} is {', '.join(stated)}")
    return wrong


if __name__ == "__main__":
    found = json.loads(Path(sys.argv[1]).read_text())
    if problems := wrong_with(found):
        sys.exit("\n".join(problems))
    print(f"{sys.argv[1]}: {len(found['components'])} components")
