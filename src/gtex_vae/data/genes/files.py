"""Files of genes: reading GTF of any release and gene lists, writing gene lists."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from gtex_vae.data.genes.ids import parse_ensembl
from gtex_vae.data.genes.table import GeneTable, bundled_genes, table_from_frame
from gtex_vae.errors import DataError
from gtex_vae.files import write_beside, write_text

BLOCK = 1 << 22
_ID = re.compile(rb'gene_id "([^"]+)"')
_NAME = re.compile(rb'gene_name "([^"]+)"')
# gene_type in GENCODE, gene_biotype in Ensembl
_BIOTYPE = re.compile(rb'gene_(?:type|biotype) "([^"]+)"')


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield whole lines of a plain or gzipped file, some MB at a time, with a progress bar."""
    from isal import igzip, igzip_threaded
    from tqdm import tqdm

    rest = b""
    try:
        with (
            open(path, "rb") as raw,
            tqdm(
                total=path.stat().st_size,
                unit="B",
                unit_scale=True,
                desc=path.name,
                delay=1,
                leave=False,
                disable=None,
            ) as bar,
        ):
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file = igzip_threaded.open(raw, "rb") if packed else raw
            while block := file.read(BLOCK):
                bar.update(raw.tell() - bar.n)
                lines, newline, after = block.rpartition(b"\n")
                if newline:
                    yield rest + lines + newline
                    rest = after
                else:
                    rest += after
    except (EOFError, zlib.error, igzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut short ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if rest:
        yield rest + b"\n"


def _gene_lines(block: bytes) -> Iterator[bytes]:
    """Yield the lines whose feature column is ``gene``, without splitting the others."""
    at = block.find(b"\tgene\t")
    while at >= 0:
        end = block.find(b"\n", at)
        yield block[block.rfind(b"\n", 0, at) + 1 : end]
        at = block.find(b"\tgene\t", end)


def gene_table(path: Path | str | None = None) -> GeneTable:
    """Load the genes of an annotation: a GTF, a gene list, or the bundled table.

    Parameters
    ----------
    path
        A GTF (.gtf, .gtf.gz) of any release, or a text file with one gene a line; the bundled table if None.
    """
    if path is None:
        return bundled_genes()
    return read_gtf(path) if ".gtf" in Path(path).suffixes else read_gene_list(path)


def read_gtf(path: Path | str) -> GeneTable:
    """Read the genes of a GENCODE or Ensembl GTF, plain or gzipped.

    Only lines of the feature ``gene`` are parsed. Former symbols, aliases and lengths come from the bundled table.

    Parameters
    ----------
    path
        GTF of any release, or the collapsed one of GTEx.

    Raises
    ------
    DataError
        The file is damaged, or has no gene line with an Ensembl id.
    """
    path = Path(path)
    rows: list[tuple[str, str, str]] = []
    for block in _blocks(path):
        for line in _gene_lines(block):
            found = _ID.search(line)
            gene = parse_ensembl(found[1].decode()) if found else None
            if gene is None:
                continue
            name, biotype = _NAME.search(line), _BIOTYPE.search(line)
            rows.append(
                (gene.gene_id, name[1].decode() if name else "", biotype[1].decode() if biotype else "")
            )
    if not rows:
        raise DataError(f"{path}: no 'gene' line with an Ensembl gene_id: give a GENCODE or Ensembl GTF")
    frame = pd.DataFrame(rows, columns=["gene_id", "gene_name", "biotype"])
    more = bundled_genes().frame[["length", "hgnc", "previous", "aliases"]]
    return table_from_frame(frame.join(more, on="gene_id"), path.name)


def read_gene_list(path: Path | str, table: GeneTable | None = None) -> GeneTable:
    """Read a list of genes: the first column of a text file, Ensembl ids or symbols.

    Parameters
    ----------
    path
        One gene a line, in the first tab- or comma-separated field; ``#`` starts a comment.
    table
        Table to look up symbols in; the bundled table if None.

    Raises
    ------
    DataError
        No gene of the file can be identified.
    """
    path = Path(path)
    table = bundled_genes() if table is None else table
    ids: list[str] = []
    labels = 0
    for block in _blocks(path):
        for line in block.decode("utf-8-sig", errors="replace").splitlines():
            label = re.split(r"[\t,]", line.partition("#")[0], maxsplit=1)[0].strip().strip('"')
            if not label:
                continue
            labels += 1
            found, ensembl = table.identify(label), parse_ensembl(label)
            if found is not None:
                ids.append(found)
            elif ensembl is not None:
                ids.append(ensembl.gene_id)
    if not ids:
        raise DataError(
            f"{path}: none of its {labels} lines starts with a human gene: one Ensembl id or symbol a line"
        )
    return table.of_ids(ids, path.name)


def write_gene_lists(folder: Path | str, gene_ids: Sequence[str], gene_names: Sequence[str]) -> None:
    """Write ``ensg_coding_genes.txt`` and ``gene_names.txt``: one gene a line, in the order of the matrix.

    Parameters
    ----------
    folder
        Created if missing.
    gene_ids
        Ensembl ids as in the source, usually with version.
    gene_names
        Symbols; a gene without one gets its id, so that the lines of both files match.
    """
    names = [name or gene_id for gene_id, name in zip(gene_ids, gene_names, strict=True)]
    for file, lines in (("ensg_coding_genes.txt", gene_ids), ("gene_names.txt", names)):
        write_text(Path(folder) / file, "".join(f"{line}\n" for line in lines))


def write_common_genes(path: Path | str, gene_ids: Iterable[str]) -> None:
    """Write ``common_gene.txt``: unversioned ids, sorted, one a line."""
    with write_beside(path) as temporary:
        temporary.write_text("".join(f"{gene_id}\n" for gene_id in sorted(set(gene_ids))), encoding="utf-8")
