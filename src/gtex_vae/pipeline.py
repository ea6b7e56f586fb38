"""Stages one after the other, each a job that waits for the one before, with one command. See ``--help``."""

from __future__ import annotations

import argparse
import logging
import sys

from gtex_vae.launch.chain import run_chain
from gtex_vae.launch.plan import plan
from gtex_vae.stage import exit_with

HELP = """Stages one after the other, each a job that waits for the one before, with one command.

python -m gtex_vae.pipeline [stages=[preprocess,train,evaluate,analyze]] [name=NAME] [KEY=VALUE ...]

KEY=VALUE              any key or group of any stage; it goes to every stage of the chain that has it
STAGE:KEY=VALUE        the same, to one stage alone: encode:input=other.csv, train:hydra.launcher.mem_gb=64
stages                 any of preprocess, pseudobulk, train, encode, evaluate, analyze, generate, in this order
name                   of the runs, outputs/<stage>/runs/NAME; the same name goes on with what is unfinished
hydra/launcher         slurm_gpu: training and encoding get a GPU, the other stages what slurm_cpu says;
                       slurm_cpu; local: processes of this machine; left out: here in the terminal

--config-dir DIR       where your own hydra/launcher/cluster/mine.yaml lies, if not in conf/
--cfg job              print the commands of the chain and leave
"""


def main() -> None:
    """Plan the chain, refuse what cannot work before anything is submitted, and see it through."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--config-dir")
    parser.add_argument("--cfg", choices=["job"])
    given, overrides = parser.parse_known_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        if given.help:
            print(HELP)
            return
        steps, folder = plan(overrides, given.config_dir)
        if given.cfg:
            print("\n".join(" ".join(["python -m", step.module, *step.arguments]) for step in steps))
        else:
            run_chain(steps, folder)
    except (Exception, KeyboardInterrupt) as error:
        exit_with(error, "train")


if __name__ == "__main__":
    main()
