"""What the HTML pages share: one look, one way to put text and data into a template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CSS = Path(__file__).with_name("page_template") / "page.css"
TOOLS = CSS.with_name("tools.js")


def script(page: Path) -> str:
    """A page's own script in a scope of its own, after what all pages use."""
    parts = (TOOLS.read_text(encoding="utf-8"), page.read_text(encoding="utf-8"))
    return '"use strict";\n(() => {\n' + "".join(parts) + "})();\n"


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Put parts into the places ``{{name}}`` of a template; text of the parts is never taken for a place.

    >>> fill("<b>{{a}}</b>{{b}}", {"a": "{{b}}", "b": "!"})
    '<b>{{b}}</b>!'
    """
    first, *rest = template.split("{{")
    return first + "".join(
        parts[key] + text for key, _, text in (piece.partition("}}") for piece in rest)
    )  # fmt: skip


def embed(data: Any) -> str:
    r"""Data as JSON that may stand inside a script element.

    >>> embed(["</script>"])
    '["\\u003c/script>"]'
    """
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
