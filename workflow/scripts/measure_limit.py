"""Measure an iteration of HNET in CL1 against the least time that this machine could take for it.

    python workflow/scripts/measure_limit.py --experiments config/experiments/split_mnist.yaml \\
        --output results/benchmarks/limit.csv

One row a part of the iteration at the last task: the floating-point operations of its matrix products, the bytes of the
arrays that it has to read or write at least once, and the larger of operations over the machine's rate of matrix
products and bytes over its bandwidth, both measured here (rows "matrix rate", in operations a second, and "bandwidth",
in bytes a second). The row "iteration" is what it takes indeed: its limit is the sum of the parts', its fraction of the
limit that sum over the measured time.
"""

import argparse
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import pandas as pd

from hnetcl import data, device, timing
from hnetcl.arguments import add_device_arguments
from hnetcl.methods.interface import Method
from hnetcl.provenance import with_machine
from hnetcl.records import write_table
from hnetcl.spec import load_experiment
from measure_iteration_cost import build

FLOAT = 4  # bytes


class Part(NamedTuple):
    """Work of one part of an iteration: operations of matrix products, numbers read or written."""

    name: str
    operations: int
    numbers: int


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", required=True, nargs="+", help="files of config/experiments")
    parser.add_argument("--iterations", type=int, default=100, help="timed iterations")
    add_device_arguments(parser, device="cpu", threads=2)
    parser.add_argument("--output", required=True, metavar="CSV", help="written: one row a part")
    arguments = parser.parse_args()
    device.prepare_process(arguments.threads)
    where = device.choose_device(arguments.device)
    dataset = data.random_images()
    rows = []
    for path in arguments.experiments:
        experiment = load_experiment(path)
        trainings = build(experiment, ["hnet_ent"], ("cl1",), dataset, where)
        rates = timing.matrix_rate(where), timing.bandwidth(where)
        last = trainings.sequence.num_tasks - 1
        [measured] = trainings.measure([last], arguments.iterations)
        rows += limit_rows(
            experiment.title,
            list(parts(trainings.methods["hnet_ent"][0], experiment.settings["optimisation"]["batch_size"])),
            measured["milliseconds"],
            *rates,
        )
    write_table(with_machine(pd.DataFrame(rows)), arguments.output)


def parts(method: Method, batch: int) -> Iterator[Part]:
    """Yield the parts of an iteration of the last task, for the exact regulariser."""
    network, target, tasks = method.classifier.hypernetwork, method.classifier.target, method.sequence.num_tasks
    width = network.shared["output"].shape[1]
    layer, chunks = network.shared["output"].numel(), network.num_chunks
    generated, earlier = chunks * network.chunk_size, (tasks - 1) * chunks
    trained = sum(value.numel() for value in network.shared.values())
    sizes = [*target.sizes[:-1], method.classifier.outputs.classes]  # one head is computed
    weights = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
    products = [fan_in * fan_out for fan_in, fan_out in pairwise(sizes)]
    activations = batch * sum(sizes)
    yield Part("batch", 0, 2 * batch * sizes[0])
    yield Part("weight generation", 2 * layer * chunks, layer + generated)
    yield Part("target network, forward", 2 * batch * sum(products), weights + activations)
    yield Part("target network, backward", 2 * batch * (2 * sum(products) - products[0]), 2 * weights + 2 * activations)
    yield Part("weight generation, backward", 4 * layer * chunks, 2 * layer + generated)
    yield Part("look-ahead step", 0, 5 * trained + 2 * layer)  # it reads the snapshot and writes the differences too
    # One product for P P', one for the output layer's gradient, two with a row for each earlier task and chunk; P is
    # read twice, the gradient read and written.
    yield Part("regulariser", 8 * layer * width + 8 * earlier * width**2, 4 * layer + 2 * layer)
    yield Part("Adam's step", 0, 7 * trained)


def limit_rows(title: str, work: list[Part], measured: float, matrix_rate: float, bandwidth: float) -> list[dict]:
    """Return a row a part, the sum with what was ``measured`` (ms), and the two rates."""

    def row(part: str, operations=None, size=None, limit=None, measured=None, fraction=None, rate=None) -> dict:
        return {
            "experiment": title,
            "part": part,
            "operations": operations,
            "bytes": size,
            "limit_milliseconds": limit,
            "milliseconds": measured,
            "fraction_of_limit": fraction,
            "rate": rate,
        }

    limits = [1000 * max(p.operations / matrix_rate, FLOAT * p.numbers / bandwidth) for p in work]
    total = sum(limits)
    return [
        *(row(p.name, p.operations, FLOAT * p.numbers, round(ms, 4)) for p, ms in zip(work, limits, strict=True)),
        row(
            "iteration",
            sum(p.operations for p in work),
            FLOAT * sum(p.numbers for p in work),
            round(total, 4),
            round(measured, 4),
            round(total / measured, 4),
        ),
        row("matrix rate", rate=round(matrix_rate)),
        row("bandwidth", rate=round(bandwidth)),
    ]


if __name__ == "__main__":
    main()
