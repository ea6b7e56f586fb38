"""docs/bad_input.md quotes every message. To write the page: ``python tests/data/readers/test_bad_input_page.py``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from gtex_vae.data.readers import read_matrix
from gtex_vae.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))

from test_bad_input import TEXT

PAGE = Path(__file__).parents[3] / "docs" / "bad_input.md"
# these quote a library, whose words change with its version
QUOTES = {"truncated h5ad", "truncated parquet", "broken quotes"}
HEAD = """# Messages for wrong files

Every fault of a matrix file ends in one line: the file, the place in it, the fault, and what to do. Nothing is guessed
and no partial output is left. `tests/data/readers/test_bad_input_page.py` writes this page from the cases of
`tests/data/readers/test_bad_input.py`, which has more of them: damaged gzip and zstd, unreadable files, full disks, wrong
arguments.

| case | message |
|---|---|
"""


def page() -> str:
    """Run every case and collect the messages in a table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix.gct"
        for case, (content, _) in TEXT.items():
            if case in QUOTES:
                continue
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            try:
                read_matrix(path)
            except DataError as error:
                message = str(error).replace(str(path), "matrix.gct").replace("|", "\\|")
                rows.append(f"| {case} | {message} |\n")
    return HEAD + "".join(rows)


def test_the_page_is_what_users_read() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == page(), f"write the page: python {Path(__file__).name}"
    assert written.count("\n| ") > 60


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
