"""Run the one-dimensional regression of chrhenning/hypercl (the paper's own code) with several seeds.

python workflow/scripts/peers/hypercl_toy.py --repository ../hypercl --seeds 1 2 3 --output toy_hypercl.csv

Its settings are those of its README but for the seed; its data are the same for every seed. One row a seed and task:
mean squared test error after the last task, and right after the task itself. A seed takes half a minute.
"""

import argparse
import os
import sys
import tempfile

import matplotlib
import pandas as pd
from hypercl import import_from

SETTINGS = ["--no_cuda", "--beta=0.005", "--emb_size=2", "--n_iter=4001", "--lr_hyper=1e-2", "--data_random_seed=42"]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", required=True)
    parser.add_argument("--seeds", required=True, nargs="+", type=int)
    parser.add_argument("--output", required=True, metavar="CSV")
    arguments = parser.parse_args()
    output = os.path.abspath(arguments.output)
    matplotlib.use("Agg")
    training = import_from(arguments.repository, "toy_example", "train")
    rows = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            sys.argv = ["train", *SETTINGS, f"--random_seed={seed}", "--no_plots", f"--out_dir={folder}/out"]
            final, during, *_ = training.run()
        rows += [
            {"seed": seed, "task": task, "final": after, "during": before}
            for task, (after, before) in enumerate(zip(final, during, strict=True), start=1)
        ]
    pd.DataFrame(rows).to_csv(output, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
