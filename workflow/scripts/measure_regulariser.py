"""Measure what the output regulariser costs, in its explicit and its exact form, against the number of earlier tasks.

    python workflow/scripts/measure_regulariser.py --experiments config/experiments/split_mnist.yaml \\
        --tasks 1 9 99 --output results/benchmarks/regulariser.csv

For each experiment's hypernetwork (that of hnet_ent) and target network, one row a form and number of earlier tasks:

milliseconds   median of one value-and-gradient, as an iteration of training needs it; the forms are measured in turn
peak_mb        most memory (MiB) that the form takes, what it stores for the whole task included
stored_mb      MiB stored for the whole task

The explicit form is left out where it would need more than half of the memory that is free.
"""

import argparse
import gc
import os
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from torch import Tensor

from hnetcl import device, timing
from hnetcl.hypernetwork import ChunkedHypernetwork
from hnetcl.records import write_table
from hnetcl.regulariser import FORMS, ExactRegulariser, OutputRegulariser
from hnetcl.spec import Experiment, load_experiment
from hnetcl.target import TargetMLP

CLASSES = 10
COPIES = 6  # arrays as large as all earlier networks that the explicit form has at once, targets included


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", required=True, nargs="+", help="files of config/experiments")
    parser.add_argument("--tasks", required=True, nargs="+", type=int, help="numbers of earlier tasks")
    parser.add_argument("--repeats", type=int, default=9, help="measurements of each form")
    parser.add_argument("--output", required=True, metavar="CSV", help="written: one row a form and number of tasks")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda"])
    arguments = parser.parse_args()
    device.prepare_process(arguments.threads)
    where = device.choose_device(arguments.device)
    rows = []
    for path in arguments.experiments:
        experiment = load_experiment(path)
        for tasks in arguments.tasks:
            rows += measure(experiment, tasks, arguments.repeats, where)
    write_table(pd.DataFrame(rows), arguments.output)


def measure(experiment: Experiment, tasks: int, repeats: int, where: torch.device) -> list[dict]:
    """Return a row for each form that memory allows, with ``tasks`` earlier tasks."""
    method = experiment.settings["methods"]["hnet_ent"]
    target = target_network(experiment)
    network = ChunkedHypernetwork([1], tasks, target.num_weights, **method["hypernetwork"], device=where)
    snapshot = {name: value.detach().clone() for name, value in network.shared.items()}
    with torch.no_grad():
        for value in network.shared.values():
            value.add_(torch.randn_like(value), alpha=1e-3)
    needed = 4 * COPIES * tasks * network.num_chunks * network.chunk_size
    forms = [name for name in FORMS if name != "explicit" or needed < free_memory(where) / 2]
    counted = [[(0, target.num_weights)]] * tasks
    gradients = {name: torch.zeros_like(value) for name, value in network.shared.items()}
    memory: dict[str, tuple[int | None, int]] = {}
    regularisers: dict[str, OutputRegulariser] = {}
    for name in forms:

        def build_and_use(name: str = name) -> None:
            regulariser = FORMS[name](network, snapshot, method["regulariser"]["beta"], counted)
            if isinstance(regulariser, ExactRegulariser):
                regulariser.output_workspace.copy_(network.shared["output"].detach())
            evaluate(regulariser, gradients)
            regularisers[name] = regulariser

        build_and_use()  # what libraries set aside at their first call is not the form's
        regularisers.pop(name)
        gc.collect()
        peak = timing.peak_memory(build_and_use, where)
        memory[name] = peak, stored_bytes(regularisers[name])
    spent = timing.in_turn(
        {name: lambda name=name: evaluate(regularisers[name], gradients) for name in forms}, where, repeats=repeats
    )
    rows = [
        {
            "experiment": experiment.title,
            "tasks": tasks,
            "form": name,
            "milliseconds": round(1000 * median(spent[name]), 4),
            "peak_mb": None if peak is None else round(peak / 2**20, 1),
            "stored_mb": round(stored / 2**20, 1),
        }
        for name, (peak, stored) in memory.items()
    ]
    for row in rows:
        print(*row.values(), flush=True)
    return rows


def target_network(experiment: Experiment) -> TargetMLP:
    """Return the target network of CL1, every task on a head of its own."""
    sequence, target = experiment.settings["sequence"], experiment.settings["target"]
    side = 28 + 2 * sequence.get("padding", 0)
    outputs = sequence["tasks"] * sequence.get("classes_per_task", CLASSES)
    return TargetMLP((side**2, *target["hidden"], outputs), target["activation"])


def evaluate(regulariser: OutputRegulariser, gradients: dict[str, Tensor]) -> None:
    """Add the regulariser's gradient at the network's present parameters to ``gradients``."""
    shared = regulariser.hypernetwork.shared
    shifted = {name: value.detach() for name, value in shared.items()}
    if isinstance(regulariser, ExactRegulariser):  # in training, the look-ahead step writes there
        shifted["output"] = regulariser.output_workspace
    regulariser.value_and_add_gradient(shifted, gradients, 0)


def stored_bytes(regulariser: OutputRegulariser) -> int:
    """Return the size of all arrays that ``regulariser`` itself keeps."""
    return sum(value.nbytes for value in vars(regulariser).values() if isinstance(value, Tensor))


def free_memory(where: torch.device) -> int:
    """Return the bytes of memory that can be had."""
    if where.type == "cuda":
        return torch.cuda.mem_get_info(where)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = meminfo.read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


if __name__ == "__main__":
    main()
