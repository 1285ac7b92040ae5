"""Measure the time of one training iteration of every method, side by side.

python workflow/scripts/measure_iteration_cost.py --experiment config/experiments/split_mnist.yaml \
    --dataset results/datasets/mnist.npz --threads 2 --scenario cl1

All methods take the same batches, in turn, a few iterations each, in one process: ratios hold when the machine's speed
drifts, and most iterations find the caches as a training alone would. An iteration is everything from gathering the
batch to the optimiser's step. The value for a task is the median over its iterations; the last rows are the mean over
tasks and the ratio to training the target network directly.

--scenario all measures what one seed of Table 1 costs: an iteration of every training that a method needs for its
three scenarios, added up. Methods with replay need one training for all three, since they share the replay model.

--fisher adds the time that online EWC takes for a task's Fisher information beside the same computed sample by sample.

--peer PATH adds GMvandeVen/continual-learning from a checkout, run as it is on the same data (SplitMNIST only): plain
training, SI and DGR+distill, each in two lengths, so that what it does once drops out of the difference.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from statistics import fmean, median

import torch
from torch.nn import functional

from hnetcl import data, device
from hnetcl.catalogue import METHODS
from hnetcl.spec import RunSpec, load_experiment
from hnetcl.tasks import TaskSequence

DIRECT = "fine_tune"  # training the target network directly
PEER_METHODS = {"fine_tune": [], "si": ["--si"], "dgr_distill": ["--replay=generative", "--distill"]}
PEER_SCENARIOS = {"cl1": "task", "cl2": "domain", "cl3": "class"}
TURN = 10  # iterations of a method before the next one's
PEER_ITERATIONS = (100, 400)  # a task


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True, help="file of config/experiments")
    parser.add_argument("--dataset", required=True, help="file written by prepare_dataset.py")
    parser.add_argument("--methods", nargs="+", help="those to measure; all of the experiment by default")
    parser.add_argument("--scenario", default="cl1", choices=[*PEER_SCENARIOS, "all"])
    parser.add_argument("--iterations", type=int, default=60, help="timed iterations a task and method")
    parser.add_argument("--warm-up", type=int, default=10, help="iterations before them that do not count")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--fisher", action="store_true", help="measure online EWC's Fisher information too")
    parser.add_argument("--peer", type=Path, help="checkout of GMvandeVen/continual-learning")
    parser.add_argument("--data-dir", type=Path, help="torchvision root with MNIST/raw, unpacked, for --peer")
    arguments = parser.parse_args()
    if arguments.peer and not arguments.data_dir:
        parser.error("--peer needs --data-dir")

    device.prepare_process(arguments.threads)
    where = device.choose_device(arguments.device)
    experiment = load_experiment(arguments.experiment)
    dataset = data.load(arguments.dataset)
    names = arguments.methods or list(experiment.settings["methods"])
    seed = experiment.seeds[0]
    wanted = tuple(PEER_SCENARIOS) if arguments.scenario == "all" else (arguments.scenario,)
    specs: dict[str, list[RunSpec]] = {name: [] for name in names}
    for name, training in experiment.trainings():
        served = tuple(scenario for scenario in training.split("-") if scenario in wanted)
        if name in specs and served:
            specs[name].append(replace(experiment.spec(name, training, seed), scenarios=served))
    if lacking := [name for name, of_name in specs.items() if not of_name]:
        known = ", ".join(experiment.settings["methods"])
        parser.error(f"--methods {' '.join(lacking)}: no training for {arguments.scenario}. Methods: {known}")
    first = specs[names[0]][0]
    sequence = TaskSequence(first, [seed], dataset, where)
    methods = {name: [METHODS[name].load()(spec, sequence) for spec in of_name] for name, of_name in specs.items()}
    scenarios = " + ".join(wanted).upper()
    what = (experiment.title, scenarios, device.describe_device(where), f"{arguments.threads} threads")
    print(f"{', '.join(what)}, milliseconds an iteration\n")
    costs = measure(methods, sequence, first.optimisation.batch_size, arguments, where)
    if arguments.peer:
        compare_with_peer(costs, wanted, arguments)
    if arguments.fisher:
        measure_fisher(methods["online_ewc"][0], where)


def measure(methods, sequence: TaskSequence, batch_size: int, arguments, where: torch.device) -> dict[str, float]:
    """Print a row a task and return each method's mean over tasks, in milliseconds."""
    labels = [METHODS[name].label for name in methods]
    print(f"| task | {' | '.join(labels)} |\n| ---: |{' ---: |' * len(labels)}")
    costs: dict[str, list[float]] = {name: [] for name in methods}
    for task in range(sequence.num_tasks):
        total = arguments.warm_up + arguments.iterations
        seconds: dict[str, list[float]] = {name: [] for name in methods}
        for trainings in methods.values():
            for method in trainings:
                method.begin_task(task)
        stages = {
            seen: sequence.training_stage(task, seen=seen, iterations=total, batch_size=batch_size)
            for seen in (False, True)
        }
        for turn in range(0, total, TURN):
            for name, trainings in methods.items():
                blocks = [
                    [timed_step(method, stages, iteration, where) for iteration in range(turn, min(turn + TURN, total))]
                    for method in trainings
                ]
                seconds[name] += map(sum, zip(*blocks, strict=True))
        for name, values in seconds.items():
            costs[name].append(1000 * median(values[arguments.warm_up :]))
        print_row(f"{task + 1}", [costs[name][-1] for name in methods])
    means = {name: fmean(values) for name, values in costs.items()}
    print_row("mean", list(means.values()))
    if DIRECT in means:
        print_row("ratio", [value / means[DIRECT] for value in means.values()])
    return means


def timed_step(method, stages, iteration: int, where: torch.device) -> float:
    """Return the seconds that one iteration takes."""
    stage = stages[method.trains_on_seen_tasks]
    wait = torch.cuda.synchronize if where.type == "cuda" else repeat(None).__next__
    wait()
    started = time.perf_counter()
    method.step(stage[iteration], iteration)
    wait()
    return time.perf_counter() - started


def compare_with_peer(costs: dict[str, float], wanted: Sequence[str], arguments) -> None:
    """Print the peer's milliseconds an iteration beside ours."""
    print("\n| method | GMvandeVen/continual-learning | here | ratio |\n| --- | ---: | ---: | ---: |")
    for name, options in PEER_METHODS.items():
        if name not in costs:
            continue
        short, long = (
            sum(peer_seconds(scenario, options, iterations, arguments) for scenario in wanted)
            for iterations in PEER_ITERATIONS
        )
        theirs = 1000 * (long - short) / (5 * (PEER_ITERATIONS[1] - PEER_ITERATIONS[0]))
        print_row(METHODS[name].label, [theirs, costs[name], theirs / costs[name]])


def peer_seconds(scenario: str, options: list[str], iterations: int, arguments) -> float:
    """Return the training time that the peer's own clock shows for SplitMNIST."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "data" / "MNIST" / "MNIST"
        raw.mkdir(parents=True)
        (raw / "raw").symlink_to((arguments.data_dir / "MNIST" / "raw").resolve())
        command = [sys.executable, "main.py", "--experiment=splitMNIST", "--no-gpus", "--no-save", "--time", "--seed=1"]
        command += [f"--scenario={PEER_SCENARIOS[scenario]}", f"--iters={iterations}", *options]
        command += [f"--data-dir={folder}/data", f"--results-dir={folder}/results"]
        threads = {"OMP_NUM_THREADS": str(arguments.threads)}
        done = subprocess.run(command, cwd=arguments.peer, env=os.environ | threads, capture_output=True, text=True)
    found = re.search(r"Total training time = ([\d.]+) seconds", done.stdout)
    if found is None:
        sys.exit(
            f"measure_iteration_cost: the peer did not end as expected:\n{done.stdout[-500:]}\n{done.stderr[-1500:]}"
        )
    return float(found[1])


def measure_fisher(method, where: torch.device, samples: int = 500) -> None:
    """Print the time of a task's Fisher information, in products and sample by sample (from ``samples`` of them)."""
    task = method.sequence.num_tasks - 1
    started = time.perf_counter()
    method.fisher_information(task)
    products = time.perf_counter() - started
    numbers, valid = method.sequence.training_set(task)
    weights = list(method.weights.values())
    sums = [torch.zeros_like(value) for value in weights]
    started = time.perf_counter()
    for number in numbers[0, :samples]:
        batch = method.sequence.train_batch(task, number.view(1, 1), None)
        logits, _ = method.outputs.active(method.network.logits(batch.x), batch.tasks, batch.labels, task + 1)
        loss = functional.cross_entropy(logits[0], logits[0].argmax(1))
        for total, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
            total += gradient.square()
    one_by_one = (time.perf_counter() - started) / samples * int(valid.sum())
    print(
        f"\nFisher information of task {task + 1}, {int(valid.sum())} samples: {products:.2f} s; sample by sample "
        f"{one_by_one:.1f} s (measured on {samples}), {one_by_one / products:.0f} times as long"
    )


def print_row(name: str, values: list[float]) -> None:
    """Print one row of a Markdown table."""
    print(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |", flush=True)


if __name__ == "__main__":
    main()
