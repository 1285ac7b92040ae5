"""Measure the time of one training iteration of every method, side by side.

    python workflow/scripts/measure_iteration_cost.py --experiment config/experiments/split_mnist.yaml \\
        --threads 2 --scenario cl1 --output results/benchmarks/iteration_cost_split_mnist.csv

All methods take the same batches, in turn, a few iterations each, in one process: ratios hold when the machine's speed
drifts, and most iterations find the caches as a training alone would. An iteration is everything from gathering the
batch to the optimiser's step. A row is the median over a task's iterations, in milliseconds.

--scenario all measures what one seed of Table 1 costs: an iteration of every training that a method needs for its
three scenarios, added up. Methods with replay need one training for all three, since they share the replay model.

--packs measures packs of several seeds. --fisher adds the time of online EWC's Fisher information of the last task (in
the column task) as it is computed here and sample by sample.

Without --dataset the images are random ones of MNIST's number and size. On a GPU steps are recorded and replayed, as
in a training; --host-steps has the host ask for every operation (column steps).
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from hnetcl import data, device, timing
from hnetcl.arguments import add_device_arguments
from hnetcl.catalogue import METHODS
from hnetcl.methods.interface import Method
from hnetcl.provenance import with_machine
from hnetcl.records import write_table
from hnetcl.spec import ConfigurationError, Experiment, load_experiment
from hnetcl.stepping import are_recorded, steps
from hnetcl.tasks import TaskSequence, TrainingStage

SCENARIOS = ("cl1", "cl2", "cl3")
TURN = 10  # iterations of a method before the next one's
WARM_UP = 10  # iterations that do not count
FISHER = "Fisher information"
FISHER_BY_SAMPLE = "Fisher information, sample by sample"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True, help="file of config/experiments")
    parser.add_argument("--dataset", help="file written by prepare_dataset.py")
    parser.add_argument("--methods", nargs="+", help="those to measure; all of the experiment by default")
    parser.add_argument("--scenario", default="cl1", choices=[*SCENARIOS, "all"])
    parser.add_argument("--packs", type=int, nargs="+", default=[1], metavar="SEEDS", help="seeds trained at once")
    parser.add_argument("--tasks", type=int, nargs="+", help="tasks to measure, from 1; all by default")
    parser.add_argument("--iterations", type=int, default=60, help="timed iterations a task and method")
    parser.add_argument("--fisher", action="store_true", help="measure online EWC's Fisher information too")
    add_device_arguments(parser, device="cpu", threads=2, precision=True)
    parser.add_argument("--host-steps", action="store_true", help="have no step recorded and replayed on a GPU")
    parser.add_argument("--output", required=True, metavar="CSV", help="written: one row a method and task")
    arguments = parser.parse_args()
    device.prepare_process(arguments.threads)
    where = device.choose_device(arguments.device, arguments.matmul_precision)
    experiment = load_experiment(arguments.experiment)
    dataset = data.load(arguments.dataset) if arguments.dataset else data.random_images()
    wanted = SCENARIOS if arguments.scenario == "all" else (arguments.scenario,)
    rows = []
    for pack in arguments.packs:
        try:
            trainings = build(experiment, arguments.methods, wanted, dataset, where, pack)
        except ConfigurationError as error:
            parser.error(str(error))
        trainings.record = not arguments.host_steps
        tasks = range(trainings.sequence.num_tasks) if arguments.tasks is None else [t - 1 for t in arguments.tasks]
        rows += trainings.measure(tasks, arguments.iterations)
        if arguments.fisher and pack == 1 and "online_ewc" in trainings.methods:
            rows += trainings.measure_fisher()
    write_table(with_machine(pd.DataFrame(rows)), arguments.output)


class Trainings:
    """The trainings of several methods side by side on the same batches, those of a pack of seeds.

    ``methods[name]`` are all the trainings that the method ``name`` needs for the scenarios that are asked for.
    """

    def __init__(
        self, experiment: Experiment, methods: dict[str, list[Method]], sequence: TaskSequence, scenarios: str
    ):
        self.methods, self.sequence, self.scenarios = methods, sequence, scenarios
        self.experiment = experiment
        self.record = True  # steps on a GPU

    def measure(self, tasks: Sequence[int], iterations: int) -> list[dict]:
        """Return a row for each of ``tasks`` (from 0) and method: milliseconds an iteration, the median."""
        rows = []
        for task in tasks:
            total = WARM_UP + iterations
            for trainings in self.methods.values():
                for method in trainings:
                    method.begin_task(task)
            stages = {
                seen: self.sequence.training_stage(
                    task,
                    seen=seen,
                    iterations=total,
                    batch_size=self.experiment.settings["optimisation"]["batch_size"],
                )
                for seen in (False, True)
            }
            calls = {
                (name, number): self._steps(method, stages[method.trains_on_seen_tasks])
                for name, trainings in self.methods.items()
                for number, method in enumerate(trainings)
            }
            spent = timing.in_turn(calls, self.sequence.device, repeats=iterations, turn=TURN, warm_up=WARM_UP)
            for name, trainings in self.methods.items():
                by_training = (spent[name, number] for number in range(len(trainings)))
                rows.append(self._row(METHODS[name].label, task, median(map(sum, zip(*by_training, strict=True)))))
        return rows

    def measure_fisher(self, samples: int = 500) -> list[dict]:
        """Return the rows for a task's Fisher information: as it is, and by ``samples`` samples one by one."""
        method, task = self.methods["online_ewc"][0], self.sequence.num_tasks - 1
        at_once = timing.seconds(lambda: method.fisher_information(task), self.sequence.device)
        numbers, valid = self.sequence.training_set(task)
        weights = list(method.weights.values())
        sums = [torch.zeros_like(value) for value in weights]
        started = time.perf_counter()
        for number in numbers[0, :samples]:
            batch = self.sequence.train_batch(task, number.view(1, 1), None)
            logits, _ = method.outputs.active(method.network.logits(batch.x), batch.tasks, batch.labels, task + 1)
            loss = functional.cross_entropy(logits[0], logits[0].argmax(1))
            for total, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
                total += gradient.square()
        one_by_one = (time.perf_counter() - started) / samples * int(valid[0].sum())
        return [self._row(FISHER, task, at_once), self._row(FISHER_BY_SAMPLE, task, one_by_one)]

    def _steps(self, method: Method, stage: TrainingStage) -> Callable[[], Tensor]:
        """Return a function that takes the next step of ``method`` each time it is called."""
        step, iterations = steps(method, stage, record=self.record), iter(range(len(stage)))
        return lambda: step(next(iterations))

    def _row(self, method: str, task: int, seconds: float) -> dict:
        row = {
            "experiment": self.experiment.title,
            "scenarios": self.scenarios,
            "method": method,
            "seeds_in_pack": len(self.sequence.seeds),
            "device": device.describe_device(self.sequence.device),
            "steps": "recorded" if are_recorded(self.sequence.device, self.record) else "host",
            "task": task + 1,
            "milliseconds": round(1000 * seconds, 4),
        }
        print(*row.values(), sep=", ", flush=True)
        return row


def build(
    experiment: Experiment,
    names: Sequence[str] | None,
    wanted: Sequence[str],
    dataset: data.Dataset,
    where: torch.device,
    pack: int = 1,
) -> Trainings:
    """Return the trainings of the methods ``names`` (all of the experiment where None) for the scenarios ``wanted``.

    Raises:
        ConfigurationError: a method is unknown or has no training for these scenarios.
    """
    names = list(experiment.settings["methods"]) if names is None else names
    seed = experiment.seeds[0]
    specs = {name: [] for name in names}
    for name, training in experiment.trainings():
        served = tuple(scenario for scenario in training.split("-") if scenario in wanted)
        if name in specs and served:
            specs[name].append(replace(experiment.spec(name, training, seed), scenarios=served))
    if lacking := [name for name, of_name in specs.items() if not of_name]:
        known = ", ".join(experiment.settings["methods"])
        raise ConfigurationError(
            f"--methods {' '.join(lacking)}: no training for {' or '.join(wanted)}. Allowed: {known}."
        )
    sequence = TaskSequence(specs[names[0]][0], range(seed, seed + pack), dataset, where)
    methods = {name: [METHODS[name].load()(spec, sequence) for spec in of_name] for name, of_name in specs.items()}
    return Trainings(experiment, methods, sequence, " + ".join(wanted).upper())


if __name__ == "__main__":
    main()
