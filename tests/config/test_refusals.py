"""Wrong configs are refused in one line with a way out, before data is read."""

from __future__ import annotations

import pytest

WRONG = {
    "model.latnt_dim=3": ["model.latnt_dim", "model.latent_dim"],
    "+model.latnt_dim=3": ["model.latnt_dim", "latent_dim"],
    "sed=3": ["sed", "'seed'"],
    "+trainer.max_epoch=3": ["trainer.max_epoch", "max_epochs"],
    "+callbacks.masking.lo=0.1": ["callbacks.masking.lo", "low"],
    "model=vea": ["model=vea", "vae"],
    "data=gtex_v9": ["data=gtex_v9", "gtex_v"],
    "optimiser=adam": ["optimiser", "optimizer"],
    "+experiment=seed_46": ["experiment=seed_46", "seed_64"],
    "experiment=seed_64": ["+experiment=NAME"],
    "model.latent_dim=many": ["model.latent_dim='many'", "integer"],
    "model.hidden_dims=32": ["model.hidden_dims=32", "list"],
    "model.norm=btch": ["model.norm='btch'", "batch"],
    "model.likelihood=poisson": ["model.likelihood", "shared"],
    "seed=1.5": ["seed=1.5", "integer"],
    "compile=perhaps": ["compile", "bool"],
    "data.split_by=tissue": ["data.split_by", "donor"],
    "data.standardize=none": ["data.standardize", "robust"],
    "model.latent_dim=0": ["model.latent_dim=0", "between 1"],
    "model.hidden_dims=[32,-1]": ["model.hidden_dims"],
    "model.dropout=1.5": ["model.dropout=1.5", "[0, 1)"],
    "objective.free_bits=-1": ["objective.free_bits=-1"],
    "objective.hidden_share=2": ["objective.hidden_share=2"],
    "optimizer.lr=-1": ["optimizer", "-1"],
    "learning_rate.warmup=1": ["learning_rate", "warmup=1"],
    "callbacks.kl_annealing.ratio=0": ["callbacks.kl_annealing.ratio=0"],
    "callbacks.kl_annealing.shape=cubic": ["callbacks.kl_annealing.shape", "cosine"],
    "callbacks.masking.low=0.9": ["callbacks.masking", "low=0.9"],
    "callbacks.last.every_n_train_steps=0": ["callbacks.last.every_n_train_steps=0"],
    "callbacks.figures.every_n_epochs=0": ["callbacks.figures.every_n_epochs=0"],
    "callbacks.console.every_n_epochs=0": ["callbacks.console.every_n_epochs=0"],
    "callbacks.early_stopping.mode=best": ["callbacks.early_stopping.mode", "'min'"],
    "callbacks.early_stopping.patience=-1": ["callbacks.early_stopping.patience=-1"],
    "data.batch_size=1": ["data.batch_size=1"],
    "data.val=0": ["data.val=0"],
    "data.test=1.0": ["data.test=1.0"],
    "data.clip=-1": ["data.clip=-1"],
    "trainer.precision=8-bit": ["trainer.precision='8-bit'"],
    "trainer.precision=64-true": ["trainer.precision=64-true", "32-true"],
    "trainer.precision=16-mixed": ["trainer.precision=16-mixed", "optimizer.fused=false"],
    "logger=null": ["~logger"],
    "trainer.max_epochs=-5": ["trainer", "max_epochs"],
    "trainer.max_epochs=0": ["trainer.max_epochs=0"],
    "trainer.accelerator=abacus": ["trainer", "abacus"],
    "trainer.strategy=deepspeed": ["trainer.strategy=deepspeed", "fsdp"],
    "trainer.check_val_every_n_epoch=0": ["trainer.check_val_every_n_epoch=0"],
    "data._target_=os.system": ["_target_", "allowed"],
    "callbacks.masking._target_=gtex_vae.training.callbacks.masking.Maskin": ["_target_", "does not exist"],
    "model": ["model", "EQUAL"],
    "data.name=log2(tpm+1)": ["data.name=log2(tpm+1) cannot be parsed", """'KEY="VALUE"'"""],
    "data.name=${x}": ["Interpolation key 'x' not found"],
    "data.name=a=b (1).tsv": ["data.name=a=b (1).tsv cannot be parsed", """'KEY="VALUE"'"""],
    "model.latent_dim=": ["model.latent_dim"],
    "data=file": ["data.path"],
}  # fmt: skip


TOGETHER = {
    ("+experiment=contrastive_views", "trainer=ddp"): ["trainer.devices=2", "data.batch_size"],
    ("+experiment=contrastive", "trainer.devices=2"): ["trainer.devices=2"],
    ("+experiment=contrastive", "alignment.trainer.devices=2"): ["alignment.trainer.devices=2"],
    ("-m", "trainer=ddp"): ["trainer.devices=2", "tasks_per_node=2"],
}


@pytest.mark.parametrize("overrides", TOGETHER)
def test_refused_together(overrides, command, tmp_path):
    done = command("gtex_vae.train", *overrides, f"paths.data={tmp_path}/data", cwd=tmp_path)
    assert done.code == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    for part in TOGETHER[overrides]:
        assert part in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("override", WRONG)
def test_refused_in_one_line(override, command, tmp_path):
    done = command("gtex_vae.train", override, f"paths.data={tmp_path}/data", cwd=tmp_path)
    assert done.code == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert "unexpected" not in lines[0]
    for part in WRONG[override]:
        assert part in lines[0]
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "data").exists()  # no data was made or read


def test_all_stages_refuse(command, tmp_path):
    for stage, wrong in (("preprocess", "dta=demo"), ("evaluate", "run=nowhere"), ("evaluate", "sed=1")):
        done = command(f"gtex_vae.{stage}", wrong, cwd=tmp_path)
        assert done.code == 1
        assert len(done.stderr.strip().splitlines()) == 1
        assert wrong.partition("=")[0] in done.stderr


def test_a_mended_command_may_use_the_same_directory(train, tmp_path):
    assert train(tmp_path, "model.dropout=2", "trainer.max_epochs=1").code == 1
    assert "model.dropout=2" in (tmp_path / "FAILED").read_text()
    done = train(tmp_path, "trainer.max_epochs=1")
    assert done.code == 0, done.stderr
    assert not (tmp_path / "FAILED").exists()


def test_only_our_experiments_are_listed(command, tmp_path):
    done = command("gtex_vae.train", "+experiment=zzz", cwd=tmp_path)
    assert done.code == 1
    assert "valid: conditional, contrastive," in done.stderr
    assert "provider" not in done.stderr


def test_a_home_directory_in_a_value_is_expanded(command, tmp_path):
    done = command(
        "gtex_vae.train", "data=file", "data.path=~/m.csv", "--cfg", "job", cwd=tmp_path, environ={"HOME": str(tmp_path)}
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert f"path: {tmp_path}/m.csv" in done.stdout


def test_help_teaches(command, tmp_path):
    done = command("gtex_vae.train", "--help", cwd=tmp_path)
    assert done.code == 0
    for part in (
        "Train a VAE", "python -m gtex_vae.train", "+experiment=", "hydra.run.dir=", "data: demo", "seed_64",
        "model.latent_dim", "trainer.max_epochs", "data.path", "--cfg job", "-m ",
    ):  # fmt: skip
        assert part in done.stdout, part
    assert len(done.stdout.splitlines()) < 60  # a screen or two; --cfg job shows every key


def test_config_and_info(command, tmp_path):
    config = command("gtex_vae.train", "--cfg", "job", "seed=7", cwd=tmp_path)
    assert config.code == 0
    assert "seed: 7" in config.stdout
    info = command("gtex_vae.train", "--info", "defaults", cwd=tmp_path)
    assert info.code == 0
    assert "learning_rate/warmup_cosine" in info.stdout
    assert list(tmp_path.iterdir()) == []  # only looking leaves nothing behind
