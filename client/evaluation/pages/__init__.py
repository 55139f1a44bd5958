"""Pages for people, of evaluations and benchmarks: one look, one template library, no file beside the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from veilmatch.client.evaluation.libraries import require


def render(template: str, **values: Any) -> str:
    """Return a page of HTML. template: a file beside this one. Whatever is no Markup is text, whatever it holds."""
    jinja2 = require("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return str(environment.get_template(template).render(**values))


def markup(html: str) -> Any:
    """Return what is HTML already, and made by us: a plot."""
    return require("markupsafe").Markup(html)


def unique_ids(name: str, picture: str) -> str:
    """Keep the ids of several SVG elements in one page apart."""
    for mark in ('id="', 'href="#', "url(#"):
        picture = picture.replace(mark, f"{mark}{name}-")
    return picture
