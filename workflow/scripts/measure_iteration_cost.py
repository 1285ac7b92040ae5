"""Measure what an iteration of the hypernetwork costs beside one of training its target network directly.

python workflow/scripts/measure_iteration_cost.py --experiment config/experiments/split_mnist.yaml \
    --dataset results/datasets/mnist.npz --threads 2

Both take the same batches with the same optimiser, in turn, in one process: the ratio holds when the machine's speed
drifts. An iteration is everything from gathering the batch to the optimiser's step. For each task, the hypernetwork
holds all earlier tasks; the value for a task is the median over its iterations, and values are averaged over tasks.
"""

import argparse
import time
from itertools import repeat
from statistics import fmean, median

import torch

from hnetcl import data, device
from hnetcl.catalogue import METHODS
from hnetcl.spec import load_experiment
from hnetcl.tasks import TaskSequence


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True, help="file of config/experiments")
    parser.add_argument("--dataset", required=True, help="file written by prepare_dataset.py")
    parser.add_argument("--iterations", type=int, default=60, help="timed iterations a task and method")
    parser.add_argument("--warm-up", type=int, default=10, help="iterations before them that do not count")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda"])
    arguments = parser.parse_args()

    device.prepare_process(arguments.threads)
    where = device.choose_device(arguments.device)
    experiment = load_experiment(arguments.experiment)
    seeds = [experiment.seeds[0]]
    trainings = {"hypernetwork": ("hnet_ent", "cl1-cl3"), "target network": ("fine_tune", "cl1")}
    specs = {name: experiment.spec(*pair, seeds[0]) for name, pair in trainings.items()}
    sequence = TaskSequence(specs["hypernetwork"], seeds, data.load(arguments.dataset), where)
    methods = {name: METHODS[spec.method].load()(spec, sequence) for name, spec in specs.items()}

    print(
        f"{experiment.title}, {device.describe_device(where)}, {arguments.threads} threads, milliseconds an iteration"
    )
    print("| task | hypernetwork | target network | ratio |\n| ---: | ---: | ---: | ---: |")
    costs: dict[str, list[float]] = {name: [] for name in methods}
    for task in range(sequence.num_tasks):
        total = arguments.warm_up + arguments.iterations
        batch_size = specs["hypernetwork"].optimisation.batch_size
        stage = sequence.training_stage(task, seen=False, iterations=total, batch_size=batch_size)
        seconds: dict[str, list[float]] = {name: [] for name in methods}
        for method in methods.values():
            method.begin_task(task)
        for iteration in range(total):
            for name, method in methods.items():
                seconds[name].append(timed_step(method, stage, iteration, where))
        for name, values in seconds.items():
            costs[name].append(1000 * median(values[arguments.warm_up :]))
        print_row(f"{task + 1}", *(costs[name][-1] for name in methods))
    print_row("mean", *(fmean(values) for values in costs.values()))


def timed_step(method, stage, iteration: int, where: torch.device) -> float:
    """Return the seconds that one iteration takes."""
    wait = torch.cuda.synchronize if where.type == "cuda" else repeat(None).__next__
    wait()
    started = time.perf_counter()
    method.step(stage[iteration], iteration)
    wait()
    return time.perf_counter() - started


def print_row(task: str, hypernetwork: float, target: float) -> None:
    """Print one row of the Markdown table."""
    print(f"| {task} | {hypernetwork:.2f} | {target:.2f} | {hypernetwork / target:.2f} |", flush=True)


if __name__ == "__main__":
    main()
