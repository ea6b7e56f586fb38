"""HTML shared by the reports: templates, tables, figures, provenance."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

CSS = Path(__file__).with_name("page_template") / "page.css"
TOOLS = CSS.with_name("tools.js")
MARK = {"better": "▲ better", "worse": "▼ worse", "open": "◆ within chance"}
NOTHING = '<p class="none">Not available for this run.</p>'


class Html(str):
    """Text that is already HTML and is not escaped."""


def image(svg: str | None, alt: str) -> str:
    """Embed a figure as a data URL, so that its ids and styles do not clash with the page's."""
    if svg is None:
        return NOTHING
    data = base64.b64encode(svg.encode()).decode()
    return f'<img class="figure" alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'


def html_table(header: list[str], rows: list[list[Any]], *, numbers_from: int = 1) -> str:
    """Format an HTML table. Text is escaped, except `Html`; columns from ``numbers_from`` on are right-aligned."""

    def cell(value: Any, column: int) -> str:
        kind = ' class="number"' if column >= numbers_from else ""
        return f"<td{kind}>{value if isinstance(value, Html) else escape(_text(value))}</td>"

    head = "".join(
        f"<th{' class=number' if i >= numbers_from else ''}>{escape(h)}</th>" for i, h in enumerate(header)
    )
    body = "".join("<tr>" + "".join(cell(value, i) for i, value in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(value: Any) -> str:
    """Format floats with three digits, integers with separators, and undefined values as a dash."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def provenance_table(run: Path, record: Mapping[str, Any]) -> str:
    """Format a run's provenance.json."""
    record = dict(record)
    config = record.pop("config", {})
    command = " ".join(map(str, record.get("command", [])))
    packages = ", ".join(f"{name} {version}" for name, version in record.get("packages", {}).items())
    git = record.get("git") or {}
    revision = f"{git.get('revision', 'unknown')}{' (edited)' if git.get('dirty') else ''}"
    rows: list[list[Any]] = [
        ["run", str(run)],
        ["trained", record.get("created")],
        ["command", command],
        ["version", f"{record.get('package')} {record.get('version')}, revision {revision}"],
        ["Python", f"{record.get('python')} on {record.get('platform')}"],
        ["packages", packages],
        *([f"source {path}", digest] for path, digest in record.get("sources", {}).items()),
    ]
    text = escape(json.dumps(config, indent=1))
    return (
        html_table(["", ""], rows, numbers_from=2)
        + f"<details><summary>complete config</summary><pre>{text}</pre></details>"
    )


def script(page: Path) -> str:
    """Wrap the shared tools and a page's script in one scope."""
    parts = (TOOLS.read_text(encoding="utf-8"), page.read_text(encoding="utf-8"))
    return '"use strict";\n(() => {\n' + "".join(parts) + "})();\n"


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Replace ``{{name}}`` in a template by the parts; placeholders inside parts are not replaced.

    >>> fill("<b>{{a}}</b>{{b}}", {"a": "{{b}}", "b": "!"})
    '<b>{{b}}</b>!'
    """
    first, *rest = template.split("{{")
    return first + "".join(
        parts[key] + text for key, _, text in (piece.partition("}}") for piece in rest)
    )  # fmt: skip


def embed(data: Any) -> str:
    r"""Encode data as JSON that is safe inside a script element.

    >>> embed(["</script>"])
    '["\\u003c/script>"]'
    """
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
