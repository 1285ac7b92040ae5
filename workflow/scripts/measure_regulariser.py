"""Measure what the output regulariser costs, in its explicit and its exact form, against the number of earlier tasks.

    python workflow/scripts/measure_regulariser.py --experiments config/experiments/split_mnist.yaml \\
        --tasks 1 9 99 --output results/benchmarks/regulariser.csv

For each experiment's hypernetwork (that of hnet_ent) and target network, one row a form and number of earlier tasks:

milliseconds   median of the gradient, as an iteration of training needs it
peak_mb        most memory (MiB) that the form takes, what it stores for the whole task included
stored_mb      MiB stored for the whole task

The explicit form is left out where it would need more than half of the memory that is free.
"""

import argparse
import gc
from collections.abc import Callable
from statistics import median

import pandas as pd
import torch
from torch import Tensor

from hnetcl import device, timing
from hnetcl.arguments import add_device_arguments
from hnetcl.hypernetwork import ChunkedHypernetwork
from hnetcl.provenance import with_machine
from hnetcl.records import write_table
from hnetcl.regulariser import FORMS, ExactRegulariser, OutputRegulariser
from hnetcl.spec import Experiment, load_experiment
from hnetcl.target import TargetMLP

CLASSES = 10
MOST_REPEATS, ENOUGH_SECONDS = 100, 0.5  # as often as this, or for as long
COPIES = 6  # arrays as large as all earlier networks that the explicit form has at once, targets included


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", required=True, nargs="+", help="files of config/experiments")
    parser.add_argument("--tasks", required=True, nargs="+", type=int, help="numbers of earlier tasks")
    parser.add_argument("--repeats", type=int, default=9, help="measurements of each form")
    parser.add_argument("--output", required=True, metavar="CSV", help="written: one row a form and number of tasks")
    add_device_arguments(parser, device="cpu", threads=2)
    arguments = parser.parse_args()
    device.prepare_process(arguments.threads)
    where = device.choose_device(arguments.device)
    cases = [Case(load_experiment(path), tasks, where) for path in arguments.experiments for tasks in arguments.tasks]
    # The exact form first: the gigabytes that the explicit one takes and gives back leave the memory in pieces, which
    # no training does. The forms do not take turns either: each would find the other's arrays in the caches.
    rows = [
        {"experiment": case.experiment.title, "tasks": case.tasks, "form": form, "milliseconds": time}
        for form in ("exact", "explicit")
        for case in cases
        if (time := case.milliseconds(form, arguments.repeats)) is not None
    ]
    memory = {(case.experiment.title, case.tasks, form): case.memory(form) for case in cases for form in FORMS}
    for row in rows:
        peak, stored = memory[row["experiment"], row["tasks"], row["form"]]
        row |= {"peak_mb": None if peak is None else round(peak / 2**20, 1), "stored_mb": round(stored / 2**20, 1)}
    write_table(with_machine(pd.DataFrame(rows)), arguments.output)


class Case:
    """One experiment's hypernetwork with ``tasks`` earlier tasks."""

    def __init__(self, experiment: Experiment, tasks: int, where: torch.device):
        self.experiment, self.tasks, self._device = experiment, tasks, where
        self._method = experiment.settings["methods"]["hnet_ent"]
        self._size = target_network(experiment).num_weights

    def _builder(self, form: str) -> Callable[[], tuple[OutputRegulariser, Callable[[], None]]]:
        """Return a function that builds the regulariser, and with it a function that computes its gradient once."""
        network = ChunkedHypernetwork([1], self.tasks, self._size, **self._method["hypernetwork"], device=self._device)
        snapshot = {name: value.detach().clone() for name, value in network.shared.items()}
        shifted = {name: value.detach() + 1e-3 * torch.randn_like(value) for name, value in network.shared.items()}
        gradients = {name: torch.zeros_like(value) for name, value in shifted.items()}
        beta, counted = self._method["regulariser"]["beta"], [[(0, self._size)]] * self.tasks

        def build() -> tuple[OutputRegulariser, Callable[[], None]]:
            regulariser, at = FORMS[form](network, snapshot, beta, counted), dict(shifted)
            if not isinstance(regulariser, ExactRegulariser):
                return regulariser, lambda: regulariser.value_and_add_gradient(at, gradients, 0)
            place = regulariser.output_place
            at["output"] = place.ahead.copy_(shifted["output"])  # in training, the step ahead is written there

            def call() -> None:
                torch.sub(place.ahead, place.before, out=place.change)  # in training, in the same pass; it counts here
                regulariser.value_and_add_gradient(at, gradients, 0)

            return regulariser, call

        return build

    def _fits(self, form: str) -> bool:
        network = self._method["hypernetwork"]
        chunks = -(-self._size // network["chunk_size"])
        needed = 4 * COPIES * self.tasks * chunks * network["chunk_size"]
        return form != "explicit" or needed < timing.free_memory(self._device) / 2

    def milliseconds(self, form: str, repeats: int) -> float | None:
        """Return the median of at least ``repeats`` gradients; None where memory does not suffice."""
        if not self._fits(form):
            return None
        _, call = self._builder(form)()
        first = timing.seconds(call, self._device)
        repeats = max(repeats, min(MOST_REPEATS, int(ENOUGH_SECONDS / first)))
        spent = timing.in_turn({form: call}, self._device, repeats=repeats)[form]
        print(self.experiment.title, self.tasks, form, f"{1000 * median(spent):.3f} ms", flush=True)
        return round(1000 * median(spent), 4)

    def memory(self, form: str) -> tuple[int | None, int]:
        """Return the most bytes that the regulariser takes, and those that it stores for the whole task."""
        if not self._fits(form):
            return None, 0
        build = self._builder(form)
        build()[1]()  # what libraries set aside at their first call is not the form's
        gc.collect()
        peak = timing.peak_memory(lambda: build()[1](), self._device)
        regulariser, call = build()
        call()
        return peak, sum(value.nbytes for value in vars(regulariser).values() if isinstance(value, Tensor))


def target_network(experiment: Experiment) -> TargetMLP:
    """Return the target network of CL1, every task on a head of its own."""
    sequence, target = experiment.settings["sequence"], experiment.settings["target"]
    side = 28 + 2 * sequence.get("padding", 0)
    outputs = sequence["tasks"] * sequence.get("classes_per_task", CLASSES)
    return TargetMLP((side**2, *target["hidden"], outputs), target["activation"])


if __name__ == "__main__":
    main()
