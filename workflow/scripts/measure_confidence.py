"""Train HNET+ENT and measure how sure each task's network is on each task's images: what its task inference rests on.

python workflow/scripts/measure_confidence.py --experiment config/experiments/split_mnist_entropy/released.yaml \
    --seeds 1 2 3 --dataset results/datasets/mnist_validation.npz --output results/tables/entropy_confidence.csv

One row for each seed, task (whose images are shown) and network (of which task), after the last task:

median_margin      median distance of the two largest logits of the network's own head
chosen             percentage of the images for which this network has the least entropy
chosen_calibrated  the same after dividing each network's logits by its median margin on training images of its own task
"""

import argparse
import logging
import tempfile
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from hnetcl import data, device, training
from hnetcl.arguments import add_device_arguments
from hnetcl.catalogue import METHODS
from hnetcl.methods.inference import predictive_entropy
from hnetcl.methods.interface import Method
from hnetcl.records import write_table
from hnetcl.spec import Experiment, load_experiment
from hnetcl.tasks import TaskSequence

CALIBRATION_IMAGES = 1000
log = logging.getLogger("measure_confidence")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True, help="file of config/experiments")
    parser.add_argument("--seeds", required=True, nargs="+", type=int)
    parser.add_argument("--dataset", required=True, help="file written by prepare_dataset.py")
    parser.add_argument("--output", required=True, metavar="CSV", help="written: one row a seed, task and network")
    add_device_arguments(parser)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%F %T")
    device.prepare_process(arguments.threads)
    where = device.choose_device(arguments.device)
    dataset = data.load(arguments.dataset)
    experiment = load_experiment(arguments.experiment)
    rows = []
    for seed in arguments.seeds:
        method, sequence, _ = train(experiment, seed, dataset, where)
        rows += measure(method, sequence, seed)
        log.info("seed %d measured", seed)
    write_table(pd.DataFrame(rows).round(4), arguments.output)


def train(
    experiment: Experiment, seed: int, dataset: data.Dataset, where: torch.device
) -> tuple[Method, TaskSequence, training.Progress]:
    """Train the first training of hnet_ent and return it with its tasks and accuracies; no checkpoint is kept."""
    name = next(served for method, served in experiment.trainings() if method == "hnet_ent")
    spec = experiment.spec("hnet_ent", name, seed)
    sequence = TaskSequence(spec, [seed], dataset, where)
    method = METHODS["hnet_ent"].load()(spec, sequence)
    with tempfile.TemporaryDirectory() as folder:
        progress = training.train(method, sequence, checkpoint=Path(folder) / "checkpoint.pt", identity=[spec.hash])
    return method, sequence, progress


@torch.no_grad()
def measure(method, sequence: TaskSequence, seed: int) -> list[dict]:
    """Return the rows of one seed (the only run of ``sequence``)."""
    tasks = range(sequence.num_tasks)
    answers = method.classifier.answer_of_every_task(sequence.num_tasks)
    scale = torch.stack([margins(answers(calibration_images(sequence, t)))[0, t].median() for t in tasks])
    rows = []
    for task in tasks:
        logits = answers(sequence.test_batch(task, sequence.test_set(task)[0]).x)
        chosen = predictive_entropy(logits)[0].argmin(0)
        calibrated = predictive_entropy(logits / scale.view(1, -1, 1, 1))[0].argmin(0)
        sure = margins(logits)[0].median(1).values
        rows += [
            {
                "seed": seed,
                "task": task + 1,
                "network": network + 1,
                "median_margin": sure[network].item(),
                "chosen": 100 * (chosen == network).double().mean().item(),
                "chosen_calibrated": 100 * (calibrated == network).double().mean().item(),
            }
            for network in tasks
        ]
    return rows


def calibration_images(sequence: TaskSequence, task: int) -> Tensor:
    """Return training images of ``task``, ``[1, images, inputs]``."""
    return sequence.train_batch(task, sequence.training_set(task)[0][:, :CALIBRATION_IMAGES], None).x


def margins(logits: Tensor) -> Tensor:
    """Return the distance of the two largest logits, ``[..., classes]`` to ``[...]``."""
    best = logits.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


if __name__ == "__main__":
    main()
