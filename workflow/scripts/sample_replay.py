"""Train the replay model of HNET+R alone and keep what it draws for a task, right after it was learned and at the end.

python workflow/scripts/sample_replay.py --experiment config/experiments/split_mnist.yaml --seed 1 \
    --dataset results/datasets/mnist.npz --output results/samples/split_mnist.npz

The model never sees a label nor the classifier, so it is the one that HNET+R trains with that seed. Both times the same
latent vectors are drawn from: what differs between two images is what later tasks changed.
"""

import argparse
import json
import logging
import sys

import numpy as np
import torch

from hnetcl import data, device, provenance
from hnetcl.arguments import add_device_arguments
from hnetcl.files import written_whole
from hnetcl.replay import hypernetwork_generator
from hnetcl.spec import ConfigurationError, load_experiment
from hnetcl.streams import NormalNoise
from hnetcl.tasks import TaskSequence

IMAGES = 10  # a task
log = logging.getLogger("sample_replay")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True, help="file of config/experiments")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--dataset", required=True, help="file written by prepare_dataset.py")
    parser.add_argument("--output", required=True, help="written: images and provenance (.npz)")
    add_device_arguments(parser)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%F %T")
    try:
        experiment = load_experiment(arguments.experiment)
        training = next((t for method, t in experiment.trainings() if method == "hnet_r"), None)
        if training is None:
            raise ConfigurationError(f"'{experiment.name}' has no method hnet_r. Allowed: an experiment that has.")
        spec = experiment.spec("hnet_r", training, arguments.seed)
        dataset = data.load(arguments.dataset)
        where = device.choose_device(arguments.device)
    except (ConfigurationError, data.DatasetError, ValueError) as error:
        sys.exit(f"sample_replay: {error}")
    process = provenance.describe_process(device.describe_device(where), arguments.threads)
    device.prepare_process(arguments.threads)
    images = draw_samples(spec, TaskSequence(spec, [spec.seed], dataset, where))
    made = provenance.describe([process], dataset.name, dataset.sha256)
    with written_whole(arguments.output) as aside:
        about = {"spec": spec.as_dict(), "spec_hash": spec.hash, "provenance": made}
        np.savez_compressed(aside, images=images, about=json.dumps(about))


def draw_samples(spec, sequence: TaskSequence) -> np.ndarray:
    """Return grey values 0..255, ``[2, tasks, images, side, side]``: right after each task, and at the end."""
    generator = hypernetwork_generator(spec.settings["replay"], sequence, spec.optimisation)
    tasks, settings = sequence.num_tasks - 1, spec.optimisation
    shape = (tasks, IMAGES, spec.settings["replay"]["latent"])
    noise = NormalNoise(sequence.seeds, "samples", shape=shape, device=sequence.device)[0]
    after = []
    for task in range(tasks):
        generator.begin_task(task)
        stage = sequence.training_stage(
            task, seen=False, iterations=settings.iterations, batch_size=settings.batch_size
        )
        for iteration in range(settings.iterations):
            x = stage[iteration].x
            generator.step(x, x.shape[1], 0.0, iteration)
        after.append(generator.draw(generator.decoders(range(task + 1)), noise[:, : task + 1])[0, task])
        log.info("learned to draw task %d of %d", task + 1, tasks)
    at_the_end = generator.draw(generator.decoders(range(tasks)), noise)[0]
    pictures = torch.stack([torch.stack(after), at_the_end])
    side = round(sequence.num_inputs**0.5)
    return (255 * pictures).round().to(torch.uint8).cpu().numpy().reshape(2, tasks, IMAGES, side, side)


if __name__ == "__main__":
    main()
