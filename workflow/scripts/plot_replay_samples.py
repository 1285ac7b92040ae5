"""Draw what the replay model draws: two rows a task, right after it was learned and after the last task.

    python workflow/scripts/plot_replay_samples.py --samples results/cached/replay_samples/split_mnist.npz \\
        --png results/figures/split_mnist_replay_samples.png --pdf results/figures/split_mnist_replay_samples.pdf
"""

import argparse
import json

import numpy as np
from matplotlib.figure import Figure

from hnetcl import figure_style as style

GAP = 1  # pixels between images


def main() -> None:
    """Read the images, write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", required=True, metavar="NPZ", help="written by sample_replay.py")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    arguments = parser.parse_args()

    with np.load(arguments.samples) as stored:
        images, about = stored["images"], json.loads(str(stored["about"]))
    with style.figure_style():
        style.save_figure(draw(images, about["spec"]), arguments.png, arguments.pdf)


def draw(images: np.ndarray, spec: dict) -> Figure:
    """Return the figure for ``images [2, tasks, n, side, side]``."""
    _, tasks, count, side, _ = images.shape
    rows = int(np.ceil(tasks / 2))
    figure = Figure(figsize=(style.TEXT_WIDTH, 0.35 + rows * 0.75), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False)
    for ax in axes.flat[tasks:]:
        ax.set_axis_off()
    for task, ax in enumerate(axes.flat[:tasks]):
        canvas = np.zeros((2 * (side + GAP) - GAP, count * (side + GAP) - GAP), np.uint8)
        for row in range(2):
            for column in range(count):
                top, left = row * (side + GAP), column * (side + GAP)
                canvas[top : top + side, left : left + side] = images[row, task, column]
        ax.imshow(canvas, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
        ax.set_title(f"Task {task + 1}")
        ax.set_xticks([])
        ax.set_yticks([side / 2, side * 1.5 + GAP], ["after the task", "at the end"])
        ax.tick_params(labelsize=style.SMALL)
        ax.grid(False)
    style.add_note(
        figure,
        f"{spec['title']}, {spec['label']}, seed {spec['seed']}. Images in a column come from the same latent vector. "
        "The model never learns from replay, and the last task is not learned.",
    )
    return figure


if __name__ == "__main__":
    main()
