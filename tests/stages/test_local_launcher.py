"""Jobs as local processes, in a folder with the time in its name."""

from __future__ import annotations


def test_a_stage_is_submitted_without_a_folder_given(command, tmp_path):
    done = command(
        "gtex_vae.preprocess", "-m", "hydra/launcher=local", "data.prepare.n_samples=150", "data.prepare.n_genes=120", cwd=tmp_path
    )  # fmt: skip
    assert done.code == 0, done.stderr
    (sweep,) = (tmp_path / "outputs" / "preprocess" / "sweeps").iterdir()
    assert (sweep / "submitted.json").exists()
    assert (sweep / "0" / "SUCCESS").exists()
