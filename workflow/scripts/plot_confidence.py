"""Draw how sure each task's network is on each task's images, and which network has the least entropy for them.

    python workflow/scripts/plot_confidence.py --confidence results/cached/entropy_confidence.csv \\
        --title "SplitMNIST, HNET+ENT" \\
        --png results/figures/entropy_confidence.png --pdf results/figures/entropy_confidence.pdf
"""

import argparse

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from hnetcl import figure_style as style

PANELS = {
    "median_margin": ("Median logit margin", "mako"),
    "chosen": ("Images answered (%)", "viridis"),
    "chosen_calibrated": ("... with calibrated margins", "viridis"),
}


def main() -> None:
    """Read the measurements, write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--confidence", required=True, metavar="CSV", help="written by measure_confidence.py")
    parser.add_argument("--title", required=True, help="what was trained")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    arguments = parser.parse_args()

    with style.figure_style():
        figure = draw(pd.read_csv(arguments.confidence), arguments.title)
        style.save_figure(figure, arguments.png, arguments.pdf)


def draw(confidence: pd.DataFrame, title: str) -> Figure:
    """Return the figure: a heat map for each measurement, images' task down and network across."""
    figure = Figure(figsize=(style.TEXT_WIDTH, 2.75), layout="constrained")
    for ax, (column, (name, colours)) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        means = confidence.pivot_table(column, index="task", columns="network", aggfunc="mean")
        share = column != "median_margin"
        limits = {"vmin": 0, "vmax": 100} if share else {"vmin": 0}
        sns.heatmap(
            means,
            ax=ax,
            cmap=colours,
            square=True,
            cbar=False,
            annot=True,
            fmt=".0f",
            annot_kws={"fontsize": 6},
            **limits,
        )
        ax.set_title(name)
        ax.set(xlabel="Network of task", ylabel="Images of task" if column == "median_margin" else "")
        ax.tick_params(labelsize=style.SMALL, rotation=0, length=0)
        ax.grid(False)
    seeds = confidence["seed"].nunique()
    style.add_note(
        figure,
        f"{title}, after the last task; mean over n={seeds} seeds; images that were not trained on. A network gets the "
        "images for which it has the least predictive entropy; for two classes that is the largest margin. Calibrated: "
        "margins divided by their median on training images of the network's own task.",
    )
    return figure


if __name__ == "__main__":
    main()
