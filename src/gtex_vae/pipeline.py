"""Run several stages in order with one command, as jobs or in the terminal. See ``--help``."""

from __future__ import annotations

import argparse
import logging
import sys

from gtex_vae.launch.chain import run_chain
from gtex_vae.launch.plan import plan
from gtex_vae.paths import expand_home
from gtex_vae.stage import exit_with

HELP = """Run several stages in order with one command, in the terminal or as jobs that wait for each other.

python -m gtex_vae.pipeline [stages=[preprocess,train,evaluate,analyze]] [name=NAME] [KEY=VALUE ...]

KEY=VALUE              any key or group of any stage; passed to every stage that has it
STAGE:KEY=VALUE        passed to one stage only: encode:input=other.csv, train:hydra.launcher.mem_gb=64
stages                 any of preprocess, pseudobulk, train, encode, evaluate, analyze, generate, in this order
name                   name of the runs, outputs/<stage>/runs/NAME; the same name resumes unfinished stages
hydra/launcher         slurm_gpu: GPU jobs for train and encode, slurm_cpu for the other stages;
                       slurm_cpu; local: local processes; without it: in the terminal

--config-dir DIR       folder with your own hydra/launcher/cluster/mine.yaml, if it is not in conf/
--cfg job              print the commands of the chain and exit
"""


def main() -> None:
    """Plan the chain, check all configs, and run it."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--config-dir")
    parser.add_argument("--cfg", choices=["job"])
    given, overrides = parser.parse_known_args(list(map(expand_home, sys.argv[1:])))
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
