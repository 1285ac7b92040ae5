"""Train chrhenning/hypercl (the paper's own code) on SplitMNIST with several seeds and write what it reaches.

python workflow/scripts/peers/hypercl_accuracy.py --repository ../hypercl --method hnet_ent --scenario 3 \\
    --seeds 1 2 3 --data /path --output hypercl_accuracy.csv

Its settings are its defaults, which are meant to be the published ones, but that no pictures are drawn while it
trains. One row a seed and task: test accuracy in percent after the last task (final) and right after the task itself
(during), and how many of the task's images were given to it in the end (inference; nothing where nothing is inferred).
Rows are written as seeds end, with the commit of the checkout and the machine, and those that the file has already are
not made again. ``--data`` holds MNIST's four files, packed, in a folder MNIST. A seed takes ten minutes on one core.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch
from hypercl import import_from

sys.path.append(str(Path(__file__).resolve().parents[1]))
from hnetcl.provenance import commit_of, with_machine

# What its README says.
OPTIONS = {"hnet_ent": ["--infer_task_id", "--infer_with_entropy"], "hnet_tir": ["--infer_task_id"], "hnet_r": []}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", required=True)
    parser.add_argument("--method", required=True, choices=list(OPTIONS))
    parser.add_argument("--scenario", required=True, type=int, choices=[1, 2, 3])
    parser.add_argument("--seeds", required=True, nargs="+", type=int)
    parser.add_argument("--data", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", required=True, metavar="CSV")
    arguments = parser.parse_args()
    try:
        code = commit_of(arguments.repository)
    except (OSError, subprocess.CalledProcessError):
        parser.error(f"--repository = '{arguments.repository}' is not allowed. Allowed: a git checkout of hypercl")
    torch.set_num_threads(arguments.threads)
    data, output = os.path.abspath(arguments.data), Path(arguments.output).absolute()
    training = import_from(arguments.repository, "mnist", "train_splitMNIST")
    training._plotImages = lambda *_: None
    published, configurations = training._set_default, []

    def without_pictures(config):
        config = published(config)
        config.data_dir, config.show_plots = data, False
        configurations.append(config)
        return config

    training._set_default = without_pictures
    run = {"method": arguments.method, "scenario": f"CL{arguments.scenario}"}
    rows = pd.read_csv(output).to_dict("records") if output.exists() else []
    for seed in arguments.seeds:
        run["seed"] = seed
        if any(run.items() <= row.items() for row in rows):
            continue
        with tempfile.TemporaryDirectory() as folder:
            options = [f"--cl_scenario={arguments.scenario}", f"--random_seed={seed}", *OPTIONS[arguments.method]]
            sys.argv = ["train", *options, "--no_cuda", f"--out_dir={folder}/out"]
            training.run(mode="split")
        found = configurations[-1]
        columns = {"final": found.overall_acc_list, "during": found.during_accs_final}
        if found.infer_task_id and arguments.scenario > 1:
            columns["inference"] = found.overall_task_infer_accuracy_list
        of_seed = [
            {**run, "task": task, **dict(zip(columns, map(float, values), strict=True))}
            for task, values in enumerate(zip(*columns.values(), strict=True), start=1)
        ]
        provenance = {"code_version": code, "torch": torch.__version__}
        rows += with_machine(pd.DataFrame(of_seed).assign(**provenance)).to_dict("records")
        pd.DataFrame(rows).to_csv(output, index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
