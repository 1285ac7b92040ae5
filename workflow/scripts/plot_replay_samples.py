"""Draw what replay models draw: two rows a task, right after it was learned and after the last task.

    python workflow/scripts/plot_replay_samples.py --samples results/cached/replay_samples/split_mnist.npz \\
        --png results/figures/table1_replay_samples.png --pdf results/figures/table1_replay_samples.pdf
"""

import argparse
import json

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hnetcl import figure_style as style

GAP = 1  # pixels between images


def main() -> None:
    """Read the images, write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", required=True, nargs="+", metavar="NPZ", help="written by sample_replay.py")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    arguments = parser.parse_args()

    models = [read(path) for path in arguments.samples]
    with style.figure_style():
        style.save_figure(draw(models), arguments.png, arguments.pdf)


def read(path: str) -> tuple[np.ndarray, dict]:
    """Return images ``[2, tasks, n, side, side]`` and the specification of the model that drew them."""
    with np.load(path) as stored:
        return stored["images"], json.loads(str(stored["about"]))["spec"]


def draw(models: list[tuple[np.ndarray, dict]]) -> Figure:
    """Return the figure: a block a model, images and specification, with a strip a task."""
    columns = 2 if max(images.shape[1] for images, _ in models) <= 6 else 3
    rows = [int(np.ceil(images.shape[1] / columns)) for images, _ in models]
    several = len(models) > 1
    heights = [1.5 / columns * count + 0.25 * several for count in rows]
    figure = Figure(figsize=(style.TEXT_WIDTH, 0.35 + sum(heights)), layout="constrained")
    blocks = figure.subfigures(len(models), 1, squeeze=False, height_ratios=heights)[:, 0] if several else [figure]
    for block, (images, spec), count in zip(blocks, models, rows, strict=True):
        axes = block.subplots(count, columns, squeeze=False)
        for ax in axes.flat[images.shape[1] :]:
            ax.set_axis_off()
        for task, ax in enumerate(axes.flat[: images.shape[1]]):
            draw_task(ax, images[:, task], f"Task {task + 1}", named=task % columns == 0 or columns == 2)
        if several:
            block.suptitle(spec["title"])
    names = dict.fromkeys(
        f"{'' if several else spec['title'] + ', '}{spec['label']}, seed {spec['seed']}" for _, spec in models
    )
    style.add_note(
        figure,
        f"{'; '.join(names)}. Images in a column come from the same latent vector. "
        f"The model{'s' * several} never learn{'s' * (not several)} from replay, and the last task is not learned.",
    )
    return figure


def draw_task(ax: Axes, images: np.ndarray, title: str, named: bool) -> None:
    """Draw ``images [2, n, side, side]`` in two rows, which are ``named`` beside them or not."""
    _, count, side, _ = images.shape
    canvas = np.zeros((2 * (side + GAP) - GAP, count * (side + GAP) - GAP), np.uint8)
    for row in range(2):
        for column in range(count):
            top, left = row * (side + GAP), column * (side + GAP)
            canvas[top : top + side, left : left + side] = images[row, column]
    ax.imshow(canvas, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    ax.set_title(title)
    ax.set_xticks([])
    ax.set_yticks([side / 2, side * 1.5 + GAP], ["after the task", "at the end"] if named else ["", ""])
    ax.tick_params(labelsize=style.SMALL)
    ax.grid(False)


if __name__ == "__main__":
    main()
