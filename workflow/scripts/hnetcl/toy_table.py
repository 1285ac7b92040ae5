"""Errors of the one-dimensional regression beside the published ones."""

from pathlib import Path

import numpy as np
import pandas as pd

METHODS = ("HNET", "HNET, fine-tuning", "HNET, from scratch", "Joint training", "EWC")
ERROR_COLUMNS = {"method": "str", "seed": "int64", "after_task": "int64", "task": "int64", "mse": "float64"}
TRAINING_POINTS, FUNCTION = "Training points", "Function"  # what stands among the curves beside the methods
FINAL, DURING = "final", "during"  # after the last task, right after the task itself
FACTOR = 2.0  # between two runs of another random stream, errors differ as much
# What config/reference.csv calls them.
PUBLISHED = {
    "HNET beta=0.005": ("HNET", FINAL),
    "fine-tuning (final)": ("HNET, fine-tuning", FINAL),
    "no reg immediate": ("HNET, fine-tuning", DURING),
    "from scratch": ("HNET, from scratch", FINAL),
    "multi-task main net": ("Joint training", FINAL),
}


def read_errors(path: str | Path) -> pd.DataFrame:
    """Read what train_toy.py wrote: one row a method, seed and task after each task."""
    frame = pd.read_csv(path, dtype=ERROR_COLUMNS)
    if list(frame.columns) != list(ERROR_COLUMNS):
        raise ValueError(f"{path}: the columns are {list(frame.columns)}. Allowed: {list(ERROR_COLUMNS)}.")
    return frame


def read_published(path: str | Path) -> pd.DataFrame:
    """Read the published errors (``config/reference.csv``), a row a method, time (final or during) and task."""
    reference = pd.read_csv(path, keep_default_na=False, na_values=[""])
    rows = reference[reference["method"].isin(PUBLISHED) & reference["metric"].str.contains("mse_task")]
    named = pd.DataFrame([PUBLISHED[method] for method in rows["method"]], columns=["method", "when"], index=rows.index)
    tasks = rows["metric"].str.extract(r"mse_task(\d+)", expand=False).astype(int)
    return named.assign(task=tasks, mse=rows["mean"]).reset_index(drop=True)


def compare(errors: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method, time and task: n, median and quartiles over seeds, and where it is published, the verdict.

    The verdict is "reproduced" where the median is within a factor of two of the published error of one seed.
    """
    last = errors["after_task"] == errors["after_task"].max()
    during = errors["after_task"] == errors["task"]
    once = ~errors["method"].isin(errors.loc[~last, "method"])  # what learns no sequence has no "during"
    parts = pd.concat([errors[last].assign(when=FINAL), errors[during & ~once].assign(when=DURING)])
    grouped = parts.groupby(["method", "when", "task"])["mse"]
    table = (
        grouped.quantile([0.25, 0.5, 0.75]).unstack().set_axis(["lower_quartile", "median", "upper_quartile"], axis=1)
    )
    table.insert(0, "n", grouped.size())
    table = table.reset_index().merge(published.rename(columns={"mse": "published"}), how="left")
    ratio = table["median"] / table["published"]
    table["verdict"] = np.select(
        [ratio.isna(), ratio.between(1 / FACTOR, FACTOR), ratio > FACTOR],
        ["not published", "reproduced", "higher"],
        default="lower",
    )
    order = {name: place for place, name in enumerate((*METHODS, DURING, FINAL))}
    return table.sort_values(
        ["method", "when", "task"], key=lambda column: column.map(order) if column.name != "task" else column
    ).reset_index(drop=True)
