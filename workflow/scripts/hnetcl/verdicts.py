"""Published numbers beside ours: means, spreads and a verdict by a stated rule. Accuracies are in percent."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hnetcl.records import BASELINES, BOUNDS, in_paper_order

CELL = ["experiment", "scenario", "method"]
FINAL_ACCURACY = "mean_test_acc_final_%"
BASELINE_ARTEFACT = "van de Ven baselines (not in paper table)"
DEFAULT_MARGIN = 0.5  # percentage points

VERDICT_COLUMNS = [
    "artefact",
    *CELL,
    "metric",
    *(f"{whose}_{what}" for whose in ("paper", "ours") for what in ("mean", "sem", "n")),
    "difference",
    "verdict",
    "tasks",
]
SUMMARISED = [
    "mean_final",
    "mean_during",
    "forgetting",
    "forward_transfer",
    "backward_transfer",
    "task_inference_final",
    "task_inference_during",
]


def read_reference(path: str | Path) -> pd.DataFrame:
    """Read the published numbers (``config/reference.csv``) that can be compared with a run's final accuracy.

    These are the cells of the paper's Table 1 and, from the baselines of van de Ven & Tolias (2019), the two
    bounds: training on one task after the other without protection, and on all tasks together.
    """
    reference = pd.read_csv(path, dtype={"n": "Int64"}, keep_default_na=False, na_values=[""])
    final = reference[reference["metric"] == FINAL_ACCURACY]
    bounds = (final["artefact"] == BASELINE_ARTEFACT) & final["method"].isin(BOUNDS)
    return final[(final["artefact"] == "Table 1") | bounds].reset_index(drop=True)


def as_published(table: pd.DataFrame, published_as: Mapping[str, str]) -> pd.DataFrame:
    """Return the tidy table ``table`` with every cell that can be in the protocol in which it was published.

    The paper's hypernetworks have the same tasks for every seed; the baselines it quotes had tasks drawn anew for every
    seed. ``published_as`` maps the titles of the experiments that draw them so to the published titles: their rows get
    the published title and take the place of the rows which that cell had. The column ``redrawn`` says which they are.
    """
    theirs = table["experiment"].isin(list(published_as))
    titles = table["experiment"].where(~theirs, table["experiment"].map(published_as))
    table = table.assign(experiment=titles, redrawn=theirs)
    return table[table["redrawn"] == table.groupby(CELL)["redrawn"].transform("any")]


def titled(kind: Callable[[str], Any], what: str) -> Callable[[str], tuple[str, Any]]:
    """Return a reader of ``TITLE=VALUE`` for a command line, its value of ``kind`` and called ``what``."""

    def read(text: str) -> tuple[str, Any]:
        title, separator, value = text.rpartition("=")
        if not separator:
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed. Allowed: 'TITLE={what}'")
        return title, kind(value)

    return read


def add_published_as(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the option that names experiments which stand in for published cells (see `as_published`)."""
    parser.add_argument(
        "--published-as",
        nargs="*",
        type=titled(str, "PUBLISHED TITLE"),
        default=[],
        metavar="TITLE=PUBLISHED",
        help="tasks redrawn as published",
    )


def compare(runs: pd.DataFrame, reference: pd.DataFrame, margin: float = DEFAULT_MARGIN) -> pd.DataFrame:
    """Return a row for each cell of ``reference`` (see `read_reference`), the columns `VERDICT_COLUMNS`.

    ``difference`` is our mean over seeds minus the published mean, in percentage points. The rule: a cell is
    ``reproduced`` if ``|difference| <= max(margin, 2 sqrt(paper_sem^2 + ours_sem^2))``, else ``above`` or
    ``below``; ``not run`` without a run. SEM is the sample standard deviation / sqrt(n); it is missing for a
    single seed, and a missing SEM counts as 0 in the rule. The rule reads the numbers as they are rounded in
    the table, so that a reader can repeat it. ``tasks`` says whether our runs (see `as_published`) had digit pairs and
    permutations ``as published`` or, where those were redrawn for every seed, ``fixed`` ones.
    """
    groups = runs.groupby(CELL)
    ours = groups["mean_final"].agg(ours_mean="mean", ours_sem="sem", ours_n="count")
    ours["redrawn"] = groups["redrawn"].any() if "redrawn" in runs else False
    published = reference.rename(columns={"mean": "paper_mean", "sem": "paper_sem", "n": "paper_n"})
    table = published.merge(ours.reset_index(), on=CELL, how="left", validate="one_to_one")
    table["ours_n"] = table["ours_n"].fillna(0).astype(int)
    table["difference"] = table["ours_mean"] - table["paper_mean"]
    table = table.round({"ours_mean": 4, "ours_sem": 4, "difference": 4})
    uncertainty = 2 * np.hypot(table["paper_sem"].fillna(0), table["ours_sem"].fillna(0))
    allowed = np.maximum(margin, uncertainty) + 1e-9  # 99.5 - 99.0 is not exactly 0.5
    table["verdict"] = np.select(
        [table["ours_n"] == 0, table["difference"].abs() <= allowed, table["difference"] > 0],
        ["not run", "reproduced", "above"],
        default="below",
    )
    redrawn = table["method"].isin(BASELINES + BOUNDS)
    table["tasks"] = np.select(
        [table["ours_n"] == 0, table["redrawn"].eq(True) == redrawn], ["", "as published"], default="fixed"
    )
    return table[VERDICT_COLUMNS]


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row a cell (experiment, method, scenario): ``n`` seeds, ``_mean``, ``_sem`` of each measure.

    SEM is the sample standard deviation / sqrt(n), missing for a single seed.
    """
    groups = runs.groupby(["experiment", "method", "scenario"])
    measures = groups[SUMMARISED].agg(["mean", "sem"]).round(4)
    measures.columns = [f"{measure}_{statistic}" for measure, statistic in measures.columns]
    measures.insert(0, "n", groups.size())
    return in_paper_order(measures.reset_index())
