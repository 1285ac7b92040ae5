"""Train a hypernetwork with two-dimensional task embeddings and measure the accuracy over their whole plane.

    python workflow/scripts/measure_landscape.py --experiment config/experiments/split_mnist_plane.yaml \\
        --dataset results/datasets/mnist.npz --output results/tables/split_mnist_plane.npz

After all tasks are learned, every point of a square grid is taken for a task embedding, and the network generated there
is tested on images of the first and of the last task, with that task's head. Written:

seeds           ``[seeds]``
axis            ``[grid]``, coordinates along either dimension
accuracy        ``[seeds, 2, grid, grid]``, percent on the first and the last task; the last index is along dimension 1
embeddings      ``[seeds, tasks, 2]``, where training left them
final, during   ``[seeds, tasks]``, accuracy in percent on all test images, after the last task and after each task
images          how many test images of a task the grid is measured with
"""

import argparse
import logging
import time

import numpy as np
import torch
from torch import Tensor

from hnetcl import data, device
from hnetcl.arguments import add_device_arguments
from hnetcl.files import written_whole
from hnetcl.hypernetwork_classifier import HypernetworkClassifier
from hnetcl.layers import ACTIVATIONS
from hnetcl.spec import load_experiment
from hnetcl.target import TargetMLP
from hnetcl.tasks import TaskSequence
from measure_confidence import train

MARGIN = 1.5  # the square reaches this many times as far as the farthest embedding
AT_ONCE = 20  # networks of the grid, so that their weights stay in a cache
log = logging.getLogger("measure_landscape")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True, help="file of config/experiments")
    parser.add_argument("--dataset", required=True, help="file written by prepare_dataset.py")
    parser.add_argument("--grid", type=int, default=101, help="points along each dimension")
    parser.add_argument("--images", type=int, default=500, help="test images of a task, at most")
    parser.add_argument("--output", required=True, metavar="NPZ", help="written: see above")
    add_device_arguments(parser)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%F %T")
    device.prepare_process(arguments.threads)
    where = device.choose_device(arguments.device)
    experiment, dataset = load_experiment(arguments.experiment), data.load(arguments.dataset)
    width = experiment.settings["methods"]["hnet_ent"]["hypernetwork"]["task_embedding"]
    if width != 2:
        parser.error(f"{arguments.experiment}: methods.hnet_ent.hypernetwork.task_embedding = {width}. Allowed: 2.")
    classifiers, sequences, final, during = [], [], [], []
    for seed in experiment.seeds:
        method, sequence, progress = train(experiment, seed, dataset, where)
        matrix = np.array(progress.accuracy["cl1"][0], dtype=float)[1:]
        final.append(matrix[-1])
        during.append(np.diagonal(matrix))
        classifiers.append(method.classifier)
        sequences.append(sequence)
        log.info("seed %d: final accuracy %.2f %%", seed, matrix[-1].mean())
    embeddings = np.stack([c.hypernetwork.embeddings(range(len(final[0])))[0].cpu().numpy() for c in classifiers])
    reach = MARGIN * np.abs(embeddings).max()
    axis = torch.linspace(-reach, reach, arguments.grid)
    started = time.monotonic()
    accuracy = [
        np.stack([landscape(c, s, task, axis.to(where), arguments.images) for task in (0, s.num_tasks - 1)])
        for c, s in zip(classifiers, sequences, strict=True)
    ]
    log.info("%d x %d points a seed and task in %.0f s", arguments.grid, arguments.grid, time.monotonic() - started)
    with written_whole(arguments.output) as aside:
        np.savez_compressed(
            aside,
            seeds=np.array(experiment.seeds),
            axis=axis.numpy(),
            accuracy=np.stack(accuracy).astype(np.float32),
            embeddings=embeddings,
            final=np.stack(final),
            during=np.stack(during),
            images=arguments.images,
        )


@torch.no_grad()
def landscape(
    classifier: HypernetworkClassifier, sequence: TaskSequence, task: int, axis: Tensor, images: int
) -> np.ndarray:
    """Return the accuracy in percent on ``task`` of the network at each point of the plane, ``[grid, grid]``."""
    points = torch.cartesian_prod(axis, axis).flip(1)  # dimension 1 changes fastest
    samples, valid = sequence.test_set(task)
    batch = sequence.test_batch(task, samples[:, valid[0]][:, :: max(1, int(valid.sum()) // images)][:, :images])
    target, pixels = classifier.target, batch.x[0].T
    upper = TargetMLP(target.sizes[1:], target.activation)
    found = []
    for part in points.split(AT_ONCE):
        weight, bias, *others = classifier.networks_at(part.unsqueeze(0), [task] * len(part))
        # All networks see the same images: their first layers are one product.
        first = (weight.flatten(0, 1) @ pixels).view(len(part), -1, pixels.shape[1]) + bias.unsqueeze(2)
        logits = upper.logits(others, ACTIVATIONS[target.activation](first).transpose(1, 2))
        found.append((logits.argmax(2) == batch.labels).double().mean(1))
    return 100 * torch.cat(found).view(len(axis), len(axis)).cpu().numpy()


if __name__ == "__main__":
    main()
