"""Annotations of GTEx v6 to v11, Xena and other tables, as typed columns."""

import gzip

import numpy as np
import pandas as pd
import pytest

from gtex_vae.data.annotation_table import read_table
from gtex_vae.data.annotations import annotate, donor_of, is_cell_line
from gtex_vae.errors import DataError
from gtex_vae.paths import shared_dir

SHARED = shared_dir()
real = pytest.mark.real
SAMPLES = ["GTEX-1117F-0226-SM-5GZZ7", "GTEX-ZZPU-2726-SM-5NQ8O", "K-562-SM-26GMQ", "GTEX-ABCD-0001-SM-00000"]

# the columns of v8 that matter here, with the stray quote and the samples of other assays that it has
V8 = """SAMPID\tSMATSSCR\tSMCENTER\tSMPTHNTS\tSMRIN\tSMTS\tSMTSD\tSMTSISCH\tSMGEBTCH\tSMAFRZE\tSMRDTTL
GTEX-1117F-0003-SM-58Q7G\t\tB1\t\t\tBlood\tWhole Blood\t1188\tBP-39216\tOMNI\t
GTEX-1117F-0226-SM-5GZZ7\t0\tB1\t2 pieces, ~15% vessel stroma, rep "delineated\t6.8\tAdipose Tissue\tAdipose - Subcutaneous\t1214\tLCSET-6056\tRNASEQ\t82124080
GTEX-ZZPU-2726-SM-5NQ8O\t1\tB1\t\t\tArtery\tArtery - Tibial\t-5\tLCSET-1\tEXCLUDE\t90
K-562-SM-26GMQ\t\tC1\t\t9.9\tBone Marrow\tCells - Leukemia cell line (CML)\t\tLCSET-2\tRNASEQ\t80
"""
SUBJECTS = (
    "SUBJID\t{sex}\tAGE\tDTHHRDY\nGTEX-1117F\t2\t60-69\t4\nGTEX-ZZPU\t1\t50-59\t\nGTEX-ABCD\t98\t20-29\t0\n"
)


@pytest.fixture
def portal(tmp_path):
    """Write the two files as the portal has them; v6 and dbGaP call the sex GENDER."""

    def write(sex="SEX"):
        (tmp_path / "SampleAttributesDS.txt").write_text(V8)
        (tmp_path / "SubjectPhenotypesDS.txt").write_text(SUBJECTS.format(sex=sex))
        return [tmp_path / "SampleAttributesDS.txt", tmp_path / "SubjectPhenotypesDS.txt"]

    return write


@pytest.mark.parametrize(
    ("sample", "donor", "line"),
    [
        ("GTEX-1117F-0226-SM-5GZZ7", "GTEX-1117F", False),
        ("GTEX-139TT-0011-R3b-SM-5K7VL", "GTEX-139TT", False),
        ("GTEX.1117F.0226.SM.5GZZ7", "GTEX-1117F", False),  # as R writes column names
        ("GTEX-1117F", "GTEX-1117F", False),
        ("K-562-SM-26GMQ", "K-562", True),
        ("TCGA-19-1787-01", "TCGA-19-1787", False),
        ("TARGET-20-PADDXZ-09", "TARGET-20-PADDXZ", False),
        ("SAMP1", None, False),
        ("1000_1001", None, False),
    ],
)
def test_donor_stands_in_the_sample_id(sample, donor, line):
    assert donor_of(sample) == donor
    assert is_cell_line(sample) is line


@pytest.mark.parametrize("sex", ["SEX", "GENDER"])
def test_portal_files_become_typed_columns(portal, sex):
    obs, report = annotate(SAMPLES, portal(sex))
    assert list(obs.index) == SAMPLES
    assert obs["donor"].tolist() == ["GTEX-1117F", "GTEX-ZZPU", "K-562", "GTEX-ABCD"]
    assert obs["tissue"].tolist()[:2] == ["Adipose - Subcutaneous", "Artery - Tibial"]
    assert obs["tissue_group"].tolist()[:2] == ["Adipose Tissue", "Artery"]
    assert obs["sex"].astype(object).where(obs["sex"].notna(), None).tolist() == [
        "female",
        "male",
        None,
        None,
    ]
    np.testing.assert_array_equal(obs["rin"], np.float32([6.8, np.nan, 9.9, np.nan]))
    np.testing.assert_array_equal(obs["ischemic_time"], np.float32([1214, -5, np.nan, np.nan]))
    assert obs["age"].cat.ordered and obs["age"].max() == "60-69"
    assert list(obs["hardy"].cat.categories) == ["0", "4"]
    assert obs["batch"].tolist()[0] == "LCSET-6056" and obs["SMRDTTL"].dtype == np.float32
    assert obs["in_freeze"].tolist() == [True, False, True, False]
    assert report["tables"]["SubjectPhenotypesDS.txt"]["joined_by"] == "donor"
    assert report["tables"]["SampleAttributesDS.txt"]["samples_found"] == 3
    assert report["misunderstood"] == {"sex": ["98"]}
    assert report["cell_lines"] == {"count": 1, "examples": ["K-562-SM-26GMQ"]}
    assert report["missing"]["tissue"] == 1


def test_samples_without_annotation_are_reported(portal):
    obs, report = annotate([*SAMPLES, "GTEX-QQQQ-1-SM-1"], portal())
    assert report["without_annotation"] == {"count": 1, "examples": ["GTEX-QQQQ-1-SM-1"]}
    assert obs["tissue"].isna().sum() == 2  # one more has its donor's row only


def test_v6_freeze_is_spelled_otherwise(tmp_path):
    path = tmp_path / "v6.txt"
    path.write_text(V8.replace("RNASEQ", "USE ME").replace("EXCLUDE", "FLAGGED"))
    assert annotate(SAMPLES, [path])[0]["in_freeze"].tolist() == [True, False, True, False]


def test_annotations_survive_a_round_trip_through_anndata(portal, tmp_path):
    import anndata as ad

    obs, _ = annotate(SAMPLES, portal())
    ad.AnnData(np.zeros((4, 1), np.float32), obs=obs).write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad").obs
    pd.testing.assert_frame_equal(
        back, obs, check_categorical=False, check_index_type=False, check_names=False
    )


def test_xena_phenotypes(tmp_path):
    head = (
        "sample\tdetailed_category\tprimary disease or tissue\t_primary_site\t_sample_type\t_gender\t_study"
    )
    rows = [
        "GTEX-1117F-0226-SM-5GZZ7\tAdipose - Subcutaneous\tAdipose - Subcutaneous\tAdipose Tissue\tNormal Tissue\tFemale\tGTEX",
        "TCGA-V4-A9EE-01\tUveal Melanoma\tUveal Melanoma\tEye\tPrimary Tumor\tMale\tTCGA",
        "TCGA-05-4384-01\tS\u00e9zary\tS\u00e9zary\tLung\tPrimary Tumor\t\tTCGA",
    ]
    path = tmp_path / "TcgaTargetGTEX_phenotype.txt.gz"
    path.write_bytes(gzip.compress("\n".join([head, *rows]).encode("latin-1")))
    obs, _ = annotate([row.split("\t")[0] for row in rows], [path])
    assert obs["tissue"].tolist() == ["Adipose - Subcutaneous", "Uveal Melanoma", "S\u00e9zary"]
    assert obs["tissue_group"].tolist() == ["Adipose Tissue", "Eye", "Lung"]
    assert obs["sex"].astype(object).tolist()[:2] == ["female", "male"] and pd.isna(obs["sex"].iloc[2])
    assert obs["study"].tolist() == ["GTEX", "TCGA", "TCGA"]
    assert obs["donor"].tolist() == ["GTEX-1117F", "TCGA-V4-A9EE", "TCGA-05-4384"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_any_table_is_joined_by_the_column_that_holds_the_ids(tmp_path, separator):
    path = tmp_path / "mine.csv"
    rows = [
        ["no", "who", "subject", "Age", "BMI"],
        ["1", "s2", "d1", "40", "21.5"],
        ["2", "s1", "d2", "NA", "x"],
    ]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(separator.join(row) for row in rows).encode())
    obs, report = annotate(["s1", "s2", "s3"], [path])
    assert report["tables"]["mine.csv"]["id_column"] == "who"
    assert obs["donor"].tolist()[:2] == ["d2", "d1"] and pd.isna(obs["donor"].iloc[2])
    np.testing.assert_array_equal(obs["age"], np.float32([np.nan, 40, np.nan]))
    assert obs["BMI"].tolist()[:2] == ["x", "21.5"]  # not all numbers: left as it is
    assert report["without_donor"] == 1


def test_a_table_s_donor_outranks_the_look_of_the_sample_id(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text("sample\tdonor\nLAB-7-SM-1\tpatient 7\n")
    assert annotate(["LAB-7-SM-1"], [path])[0]["donor"].tolist() == ["patient 7"]


def test_a_matrix_s_own_annotations_are_typed_and_come_first(portal):
    own = pd.DataFrame(
        {
            "indiv": ["a", None, "c", "d"],
            "sex": pd.Categorical(["M", "F", None, "F"]),
            "hardy": [4.0, np.nan, 0.0, 1.0],
        }
    )
    obs, report = annotate(SAMPLES, portal(), own=own)
    assert obs["donor"].tolist() == ["a", "GTEX-ZZPU", "c", "d"]
    assert obs["sex"].astype(object).tolist()[:2] == ["male", "female"] and pd.isna(obs["sex"].iloc[2])
    assert obs["hardy"].astype(object).tolist()[::2] == ["4", "0"]
    assert obs["tissue"].notna().sum() == 3 and report["without_annotation"]["count"] == 0


def test_dbgap_comments_are_skipped(tmp_path):
    path = tmp_path / "phs.txt"
    path.write_text("# Study accession\n#\n\n" + V8)
    assert len(read_table(path)) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows below a header"),
        (b"a\tb\n", "no rows below a header"),
        (b"only one column\nx\n", "header has one column"),
        (b"a\tb\n1\t2\t3\n", "row 2 has 3 fields, its header 2"),
        (b"a\tb\nx\ty\n", r"no column contains any of the 5 ids"),
        (gzip.compress(V8.encode(), mtime=0)[:-9], "damaged or truncated"),
    ],
)
def test_bad_tables_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.txt: .*{message}"):
        annotate(["GTEX-1117F-0226-SM-5GZZ7", "GTEX-1117F-0227-SM-5GZZ7", "s3", "s4"], [path])
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read"):
        annotate(["s"], [tmp_path / "gone.txt"])


def test_repeated_sample_ids_are_refused():
    with pytest.raises(DataError, match="1 sample ids are not unique: s"):
        annotate(["s", "s"], [])


@real
@pytest.mark.skipif(not (SHARED / "gtex_v6").is_dir(), reason="no shared GTEx v6 extract")
def test_real_v6_annotations():
    import anndata as ad

    expected = ad.read_h5ad(SHARED / "gtex_v6/gtex_v6.h5ad", backed="r").obs
    tables = [SHARED / "gtex_v6/SampleAttributes.txt", SHARED / "gtex_v6/SubjectPhenotypes.txt"]
    obs, report = annotate(list(expected.index), tables)
    for column in ("donor", "tissue", "tissue_group", "age"):
        assert (obs[column].astype(str) == expected[column].astype(str)).all()
    assert (obs["sex"].map({"male": "M", "female": "F"}).astype(str) == expected["sex"].astype(str)).all()
    assert obs["hardy"].isna().sum() == expected["hardy"].isna().sum() == 98
    assert report["without_annotation"]["count"] == 0 and obs["donor"].nunique() == 435
