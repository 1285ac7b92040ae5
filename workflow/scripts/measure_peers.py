"""Measure training iterations of two public repositories beside those here, on the same data and threads.

    python workflow/scripts/measure_peers.py --dataset results/datasets/mnist.npz \\
        --hypercl ../hypercl --continual-learning ../continual-learning --output results/benchmarks/peers.csv

chrhenning/hypercl      the paper's own code: HNET in CL1, SplitMNIST and PermutedMNIST-10, averaged over the tasks
GMvandeVen/continual-learning    direct training, SI and DGR+distill on SplitMNIST, in CL1 and in all three scenarios

Both run as they are (see peers/hypercl.py), at their own defaults. Our own iterations are measured right before and
right after each of theirs. Of a repository that is not there, nothing is measured.
"""

import argparse
import gzip
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd

from hnetcl import data, device
from hnetcl.catalogue import METHODS
from hnetcl.provenance import with_machine
from hnetcl.records import write_table
from hnetcl.spec import load_experiment
from measure_iteration_cost import SCENARIOS, build

HYPERCL, CONTINUAL_LEARNING = "chrhenning/hypercl", "GMvandeVen/continual-learning"
COLUMNS = ["peer", "experiment", "scenarios", "method", "theirs_milliseconds", "ours_milliseconds", "ratio"]
EXPERIMENTS = {"split": "split_mnist", "perm": "permuted_mnist"}
HYPERCL_ITERATIONS = {"split": (50, 150), "perm": (10, 60)}  # a task, in two runs, as below
THEIR_OPTIONS = {"fine_tune": [], "si": ["--si"], "dgr_distill": ["--replay=generative", "--distill"]}
THEIR_SCENARIOS = dict(zip(SCENARIOS, ("task", "domain", "class"), strict=True))
THEIR_ITERATIONS = (100, 400)  # a task, in two runs: what is done once drops out of the difference
TASKS = 5
OUR_ITERATIONS = 60


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="MNIST as written by prepare_dataset.py")
    parser.add_argument("--hypercl", type=Path, help="checkout of chrhenning/hypercl")
    parser.add_argument("--continual-learning", type=Path, help="checkout of GMvandeVen/continual-learning")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--output", required=True, metavar="CSV", help="written: one row a comparison")
    arguments = parser.parse_args()
    if not (arguments.hypercl or arguments.continual_learning):
        write_table(with_machine(pd.DataFrame(columns=COLUMNS)), arguments.output)
        return
    if not arguments.dataset:
        parser.error("--hypercl and --continual-learning need --dataset")
    device.prepare_process(arguments.threads)
    dataset = data.load(arguments.dataset)
    rows = []
    with mnist_files(dataset) as folder:
        if arguments.hypercl:
            for mode in EXPERIMENTS:
                theirs = partial(hypercl, mode, folder, arguments)
                rows.append(beside(HYPERCL, mode, "hnet_ent", ("cl1",), dataset, theirs))
        if arguments.continual_learning:
            for wanted in (("cl1",), SCENARIOS):
                for method in THEIR_OPTIONS:
                    theirs = partial(continual_learning, method, wanted, folder, arguments)
                    rows.append(beside(CONTINUAL_LEARNING, "split", method, wanted, dataset, theirs))
    write_table(with_machine(pd.DataFrame(rows, columns=COLUMNS)), arguments.output)


def beside(peer: str, mode: str, method: str, wanted, dataset, measure_theirs) -> dict:
    """Return the row of one comparison."""
    experiment = load_experiment(f"config/experiments/{EXPERIMENTS[mode]}.yaml")

    def ours() -> float:
        trainings = build(experiment, [method], wanted, dataset, device.choose_device("cpu"))
        tasks = range(trainings.sequence.num_tasks)
        return fmean(row["milliseconds"] for row in trainings.measure(tasks, OUR_ITERATIONS))

    before = ours()
    theirs = measure_theirs()
    here = fmean([before, ours()])
    scenarios = " + ".join(wanted).upper()
    values = [peer, experiment.title, scenarios, METHODS[method].label, round(theirs, 3), round(here, 3)]
    row = dict(zip(COLUMNS, [*values, round(theirs / here, 2)], strict=True))
    print(*row.values(), sep=", ", flush=True)
    return row


@contextmanager
def mnist_files(dataset: data.Dataset) -> Iterator[Path]:
    """Yield a folder with MNIST's four files as they were distributed, where either repository looks for them.

    Packed in MNIST (hypercl), unpacked in MNIST/MNIST/raw (continual-learning, through torchvision).
    """
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "MNIST" / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for key, (name, _, _) in data.MNIST_FILES.items():
            array = getattr(dataset, key).astype(np.uint8)
            content = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()
            (raw / name).write_bytes(content)
            (Path(folder) / "MNIST" / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
        yield Path(folder)


def hypercl(mode: str, folder: Path, arguments: argparse.Namespace) -> float:
    """Return milliseconds an iteration of HNET in CL1, averaged over the tasks."""
    script = Path(__file__).parent / "peers" / "hypercl.py"

    def seconds(iterations: int) -> float:
        command = [sys.executable, str(script), f"--repository={arguments.hypercl}", f"--mode={mode}"]
        command += [f"--iterations={iterations}", f"--data={folder}", f"--threads={arguments.threads}"]
        found = output_of(command, None, arguments.threads, r"seconds of training: ([\d. ]+)")
        return fmean(map(float, found.split()))

    short, long = HYPERCL_ITERATIONS[mode]
    return 1000 * (seconds(long) - seconds(short)) / (long - short)


def continual_learning(method: str, wanted: tuple[str, ...], folder: Path, arguments: argparse.Namespace) -> float:
    """Return milliseconds an iteration on SplitMNIST by the peer's own clock, added up over the scenarios."""

    def seconds(scenario: str, iterations: int) -> float:
        command = [sys.executable, "main.py", "--experiment=splitMNIST", "--no-gpus", "--no-save", "--time", "--seed=1"]
        command += [f"--scenario={THEIR_SCENARIOS[scenario]}", f"--iters={iterations}", *THEIR_OPTIONS[method]]
        command += [f"--data-dir={folder}", f"--results-dir={folder / 'results'}"]
        pattern = r"Total training time = ([\d.]+) seconds"
        return float(output_of(command, arguments.continual_learning, arguments.threads, pattern))

    short, long = (sum(seconds(scenario, iterations) for scenario in wanted) for iterations in THEIR_ITERATIONS)
    return 1000 * (long - short) / (TASKS * (THEIR_ITERATIONS[1] - THEIR_ITERATIONS[0]))


def output_of(command: list[str], where: Path | None, threads: int, pattern: str) -> str:
    """Run a peer and return what ``pattern`` finds in its output; end the program with that output where it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
    found = re.search(pattern, done.stdout)
    if found is None:
        sys.exit(
            f"measure_peers: {' '.join(command)}\ndid not end as expected:\n{done.stdout[-500:]}\n{done.stderr[-1500:]}"
        )
    return found[1]


if __name__ == "__main__":
    main()
