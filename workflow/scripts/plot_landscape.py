"""Draw figure 4: accuracy on the first and the last task over the plane of task embeddings, after all tasks.

    python workflow/scripts/plot_landscape.py --landscape results/cached/split_mnist_plane.npz --title SplitMNIST \\
        --png results/figures/split_mnist_plane.png --pdf results/figures/split_mnist_plane.pdf
"""

import argparse
from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hnetcl import figure_style as style

COLOURS = sns.color_palette("colorblind")
THRESHOLDS = np.arange(50, 100.1, 0.5)


def main() -> None:
    """Read the measurements, write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landscape", required=True, metavar="NPZ", help="written by measure_landscape.py")
    parser.add_argument("--title", required=True, help="what was learned")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    arguments = parser.parse_args()
    with np.load(arguments.landscape) as stored, style.figure_style():
        figure = draw(dict(stored), arguments.title)
        style.save_figure(figure, arguments.png, arguments.pdf)


def draw(landscape: Mapping[str, np.ndarray], title: str) -> Figure:
    """Return the figure: a map for the first and for the last task, and how large the good region is."""
    tasks = landscape["embeddings"].shape[1]
    shown = typical_seed(landscape["accuracy"])
    figure = Figure(figsize=(style.TEXT_WIDTH, 2.5), layout="constrained")
    first, last, region = figure.subplots(1, 3)
    for place, (ax, name) in enumerate(((first, "First"), (last, "Last"))):
        mesh = draw_map(ax, landscape, shown, place)
        ax.set_title(f"{name} task, accuracy (%)")
    last.set_ylabel("")
    last.set_yticklabels([])
    bar = figure.colorbar(mesh, ax=[first, last], shrink=0.75, aspect=25, pad=0.01)
    bar.ax.tick_params(labelsize=style.SMALL, size=0)
    bar.outline.set_visible(False)
    draw_region(region, landscape["accuracy"])
    keys = [Line2D([], [], color=COLOURS[0], label="first task"), Line2D([], [], color=COLOURS[1], label="last task")]
    figure.legend(handles=keys, loc="outside upper right", ncols=2)
    final, during = (landscape[name].mean(1) for name in ("final", "during"))
    sem = final.std(ddof=1) / len(final) ** 0.5 if len(final) > 1 else 0.0
    style.add_note(
        figure,
        f"{title}, CL1, after all {tasks} tasks; numbers: where the tasks' embeddings are. Maps of seed "
        f"{landscape['seeds'][shown]}, the one with the median good region; right: every one of n={len(final)} seeds, "
        f"share of the square shown; at most {int(landscape['images'])} test images a point. Final accuracy of these "
        f"networks {final.mean():.2f} ± {sem:.3f} % (SEM), {during.mean():.2f} % right after each task.",
    )
    return figure


def typical_seed(accuracy: np.ndarray) -> int:
    """Return the place of the seed whose region above 95 % on the last task is the median (the lower one of two)."""
    areas = (accuracy[:, 1] >= 95).mean((1, 2))
    return int(np.argsort(areas, kind="stable")[(len(areas) - 1) // 2])


def draw_map(ax: Axes, landscape: Mapping[str, np.ndarray], seed: int, place: int):
    """Draw the accuracy of one seed on one task (0 first, 1 last) over the plane; return the mesh."""
    axis = landscape["axis"]
    mesh = ax.pcolormesh(
        axis, axis, landscape["accuracy"][seed, place], cmap="viridis", vmin=50, vmax=100, rasterized=True
    )
    embeddings = landscape["embeddings"][seed]
    ax.plot(*embeddings.T, linestyle="none", marker="o", markersize=7, color="w")
    for number, (x, y) in enumerate(embeddings, start=1):  # above all circles, where two embeddings are close
        ax.text(x, y, number, fontsize=style.SMALL, ha="center", va="center", zorder=3)
    ax.set(aspect="equal", xlabel="Embedding, dimension 1", ylabel="Dimension 2")
    ax.set(xlim=axis[[0, -1]], ylim=axis[[0, -1]])
    ax.tick_params(labelsize=style.SMALL)
    ax.grid(False)
    return mesh


def draw_region(ax: Axes, accuracy: np.ndarray) -> None:
    """Draw which share of the plane is at least as good as a threshold, a line a seed and task."""
    for place, look in enumerate(({"color": COLOURS[0]}, {"color": COLOURS[1]})):
        for values in accuracy[:, place]:
            share = [100 * (values >= threshold).mean() for threshold in THRESHOLDS]
            ax.plot(THRESHOLDS, share, linewidth=0.8, **look)
    ax.set(xlabel="Accuracy of at least (%)", title="Share of the plane (%)", ylim=(0, 102), xlim=(50, 100))
    ax.set_box_aspect(1)
    ax.tick_params(labelsize=style.SMALL)


if __name__ == "__main__":
    main()
