"""How does a report become a page? One HTML text with its style, its figures and three lines of script inside, which fetches nothing."""

from __future__ import annotations

import re
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unbraid.report.content import Page


def render(page: Page) -> str:
    """Return a report as one self-contained HTML text; everything but our own figures is escaped."""
    environment = Environment(
        loader=PackageLoader("unbraid.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    cast("dict[str, Any]", environment.filters)["inline_svg"] = inline_svg
    return environment.get_template("report.html.j2").render(page=page)


def inline_svg(svg: str, name: str, label: str) -> Markup:
    """Prepare a figure of ours for a page: its ids are made unique, it scales, and it says what it shows."""
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{Markup.escape(label)}" ', 1))
