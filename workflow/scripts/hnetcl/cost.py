"""What a training may take: the limits that clusters want to know before a job starts. They change no number."""

from collections.abc import Sequence
from itertools import pairwise

from hnetcl.spec import RunSpec

# Nanoseconds that an iteration takes for every weight of the target network and every image of the batch: three times
# what was measured on one CPU thread (results/cached/runs.csv; the larger of SplitMNIST and PermutedMNIST-10), for
# slower processors and busy nodes. Trainings in one scenario or in all of them, as hnetcl/catalogue.py cuts them.
NANOSECONDS = {
    "hnet_ent": 0.7,
    "hnet_tir": 3.0,
    "hnet_r": 2.3,
    "ewc": 0.6,
    "online_ewc": 0.6,
    "si": 0.35,
    "dgr": 4.0,
    "dgr_distill": 4.0,
    "separate": 0.3,
    "fine_tune": 0.3,
    "joint": 0.3,
}
# What each earlier task held by the regulariser adds to an iteration: task 100 of PermutedMNIST-100 costs about four
# times as much as task 10 (docs/speed.md).
EARLIER_TASK = 0.055
# However small a network is, an iteration costs as much as this many weights times images.
LEAST_WORK = 5_000_000
SIDES = {"digits": 8, "mnist": 28, "mnist_validation": 28}  # pixels
START_MINUTES = 15  # imports, data, evaluation, a file system that answers slowly
# Few clusters let a job run longer. A training that takes more time goes on from its checkpoint in the next job.
LONGEST_MINUTES = 24 * 60


def time_limit_minutes(specs: Sequence[RunSpec], attempt: int = 1) -> int:
    """Return a time limit for training ``specs`` as one pack: on the second attempt twice as long, and so on.

    It is the longest one where nothing was measured: other datasets or methods, convolutional targets, epochs.
    """
    seconds = 0.0
    for spec in specs:
        measured = spec.dataset in SIDES and spec.method in NANOSECONDS
        if not measured or spec.target.hidden is None or spec.optimisation.iterations is None:
            return LONGEST_MINUTES
        layers = ((SIDES[spec.dataset] + 2 * spec.sequence.padding) ** 2, *spec.target.hidden)
        weights = sum(inputs * outputs for inputs, outputs in pairwise(layers))
        work = weights * spec.optimisation.batch_size + LEAST_WORK
        iterations = spec.sequence.tasks * spec.optimisation.iterations
        seconds += iterations * work * NANOSECONDS[spec.method] * (1 + EARLIER_TASK * mean_tasks_held(spec)) * 1e-9
    return min(attempt * (START_MINUTES + round(seconds / 60)), LONGEST_MINUTES)


def mean_tasks_held(spec: RunSpec) -> float:
    """Return how many earlier tasks the regulariser holds in an iteration, on average; 0 where there is none."""
    regulariser = spec.settings.get("regulariser")
    if regulariser is None:
        return 0.0
    most = spec.sequence.tasks if regulariser["tasks"] == "all" else regulariser["tasks"]
    return sum(min(task, most) for task in range(spec.sequence.tasks)) / spec.sequence.tasks


def memory_limit_mb(specs: Sequence[RunSpec], attempt: int = 1) -> int:
    """Return a memory limit for training ``specs`` as one pack, Snakemake's own processes included.

    1.0 to 1.7 GB were measured for one seed, of which at most 0.6 GB are its own and not those of Python and the data.
    """
    return attempt * (3000 + 1000 * len(specs))
