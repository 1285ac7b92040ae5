"""Learn the three functions of figure 2 one after the other, in every way, all seeds at once.

    python workflow/scripts/train_toy.py --config config/toy.yaml \\
        --errors results/tables/toy.csv --curves results/tables/toy_curves.csv

toy.csv holds the mean squared test error of every method, seed and task after each task; toy_curves.csv the fits of the
seed whose final error is the median (the lower one of two), the training points and the functions themselves.
"""

import argparse
import logging
from pathlib import Path

import pandas as pd
import torch
import yaml
from torch import Tensor

from hnetcl import device
from hnetcl.records import write_table
from hnetcl.regression import LEARNERS, Fit, Trainer, mean_squared_errors
from hnetcl.spec import validate
from hnetcl.toy_table import FUNCTION, TRAINING_POINTS

log = logging.getLogger("train_toy")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, type=Path, help="settings, as in toy.schema.yaml")
    parser.add_argument("--errors", required=True, metavar="CSV", help="written: one row a method, seed and task")
    parser.add_argument("--curves", required=True, metavar="CSV", help="written: one row a point of a fit")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%F %T")
    device.prepare_process(arguments.threads)
    settings = yaml.safe_load(arguments.config.read_text())
    validate(settings, "toy", arguments.config)
    errors, curves = [], point_rows(Trainer(settings))
    for method, learn in LEARNERS.items():
        trainer = Trainer(settings)
        fits = learn(trainer)
        errors += error_rows(method, trainer, fits)
        curves += curve_rows(method, trainer, fits)
        log.info("%s: %d seeds done", method, len(trainer.seeds))
    write_table(pd.DataFrame(errors), arguments.errors)
    write_table(pd.DataFrame(curves).astype({"seed": "Int64", "after_task": "Int64"}), arguments.curves)


def error_rows(method: str, trainer: Trainer, fits: list[Fit]) -> list[dict]:
    """Return a row for every seed, fit and task that was learned by then."""
    return [
        {
            "method": method,
            "seed": seed,
            "after_task": fit.after_task,
            "task": task + 1,
            "mse": float(f"{errors[run, task]:.6g}"),
        }
        for fit in fits
        for errors in [mean_squared_errors(fit, trainer.tasks)]
        for run, seed in enumerate(trainer.seeds)
        for task in range(fit.after_task)
    ]


def curve_rows(method: str, trainer: Trainer, fits: list[Fit]) -> list[dict]:
    """Return the fits of the median seed, a row a task that was learned by then and test point."""
    final = mean_squared_errors(fits[-1], trainer.tasks).mean(1)
    run = int(torch.argsort(final)[(len(final) - 1) // 2])
    return [
        row
        for fit in fits
        for task in range(fit.after_task)
        for row in rows_of(
            method, trainer.seeds[run], fit.after_task, task, trainer.tasks[task].test_x, fit.predictions[run, task]
        )
    ]


def point_rows(trainer: Trainer) -> list[dict]:
    """Return the training points and the functions at the test points, as curves of no seed."""
    return [
        row
        for task, points in enumerate(trainer.tasks)
        for name, x, y in (
            (TRAINING_POINTS, points.train_x, points.train_y),
            (FUNCTION, points.test_x, points.test_y),
        )
        for row in rows_of(name, None, None, task, x, y)
    ]


def rows_of(method: str, seed: int | None, after_task: int | None, task: int, x: Tensor, y: Tensor) -> list[dict]:
    """Return a row a point."""
    same = {"method": method, "seed": seed, "after_task": after_task, "task": task + 1}
    return [same | {"x": round(a, 4), "y": round(b, 4)} for a, b in zip(x.tolist(), y.tolist(), strict=True)]


if __name__ == "__main__":
    main()
