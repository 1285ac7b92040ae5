"""Result tables in the paper's layout: one grid an experiment, methods as rows, scenarios as columns.

A cell holds our final accuracy (mean ± SEM in percent, number of seeds) above the published value and the
verdict. Its lines are written once as plain text; Markdown and LaTeX only differ in how they set them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, repeat, zip_longest
from typing import NamedTuple

import pandas as pd

from hnetcl.records import BASELINES, BOUNDS, method_rank
from hnetcl.verdicts import BASELINE_ARTEFACT, CELL

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "#": r"\#",
        "_": r"\_",
        "$": r"\$",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
        "†": r"\textdagger{}",
        "‡": r"\textdaggerdbl{}",
        "§": r"\S{}",
        "¶": r"\P{}",
    }
)


class Grid(NamedTuple):
    """One experiment: its title and its cells (index methods, columns scenarios, each a list of lines)."""

    experiment: str
    cells: pd.DataFrame


@dataclass(frozen=True)
class Table:
    """What both formats show: title, caption, a grid an experiment, and the notes that the grids need."""

    title: str
    caption: str
    grids: list[Grid]
    notes: list[str]


def build_table(
    summary: pd.DataFrame,
    verdicts: pd.DataFrame,
    reference: pd.DataFrame,
    experiments: list[str],
    title: str,
    margin: float,
) -> Table:
    """Lay out the frames of `verdicts.summarise`, `verdicts.compare` and `verdicts.read_reference`.

    ``experiments`` are titles in the order to show; ``margin`` is the one the verdicts were made with, in
    percentage points. An experiment without runs and published values is a ``ValueError``.
    """
    published = verdicts.merge(reference[[*CELL, "confidence"]], on=CELL, how="left")
    cells = summary.merge(published, on=CELL, how="outer")
    missing = sorted(set(experiments) - set(cells["experiment"]))
    if missing:
        known = sorted(set(cells["experiment"]))
        raise ValueError(f"no run and no published value of the experiments {missing}. Allowed: {known}.")
    cells = cells[cells["experiment"].isin(experiments)]
    cells = cells.assign(lines=[_lines(cell) for cell in cells.itertuples()])
    text = " ".join(line for lines in cells["lines"] for line in lines)
    return Table(
        title=title,
        caption="Test accuracy in % after the last task, mean over all tasks; mean ± SEM over n seeds.",
        grids=[Grid(name, _grid(cells[cells["experiment"] == name])) for name in experiments],
        notes=[note for sign, note in _notes(margin).items() if sign in text],
    )


def markdown(table: Table) -> str:
    """Return ``table`` as GitHub-flavoured Markdown."""
    blocks = [f"### {table.title}", table.caption]
    for experiment, cells in table.grids:
        rows = [[method, *map("<br>".join, lines)] for method, *lines in cells.itertuples()]
        blocks += [f"**{experiment}**", markdown_rows(["Method", *cells.columns], rows)]
    if table.notes:
        blocks.append("\n".join(f"- {note}" for note in table.notes))
    return "\n\n".join(blocks) + "\n"


def latex(table: Table) -> str:
    r"""Return ``table`` as a LaTeX ``table`` to ``\input``; it needs the package ``booktabs``."""
    columns = max(len(cells.columns) for _, cells in table.grids)
    body = "\n\\midrule\n".join(_latex_grid(grid, columns) for grid in table.grids)
    notes = "".join(f"\n\n{_escaped(note)}" for note in table.notes)
    return rf"""\begin{{table}}[t]
\centering
\caption{{{_escaped(table.title)}. {_escaped(table.caption)}}}
\scriptsize
\begin{{tabular}}{{l{"c" * columns}}}
\toprule
{body}
\bottomrule
\end{{tabular}}{notes}
\end{{table}}
"""


def _lines(cell: NamedTuple) -> list[str]:
    run = pd.notna(cell.mean_final_mean)
    ours = estimate(cell.mean_final_mean, cell.mean_final_sem, cell.n) if run else "not run"
    lines = [ours]
    if pd.notna(cell.paper_mean):
        marks = "†" * (cell.confidence != "checked") + "‡" * (cell.artefact == BASELINE_ARTEFACT)
        if cell.method in BASELINES + BOUNDS:
            marks += {"as published": "¶", "fixed": "§"}.get(cell.tasks, "")
        lines.append(f"paper {estimate(cell.paper_mean, cell.paper_sem, cell.paper_n)}{marks}")
        if run:
            lines.append(judged(cell.verdict, cell.difference))
    return lines


def estimate(mean: float, spread: float, n: int | None = None) -> str:
    """Return a mean with its spread, alone where a single seed leaves none, and with the number of seeds if known."""
    text = f"{mean:.2f} ± {spread:.2f}" if pd.notna(spread) else f"{mean:.2f}"
    return f"{text} (n={n:.0f})" if pd.notna(n) else text


def judged(verdict: str, difference: float) -> str:
    """Return a verdict with the difference that it is about."""
    return f"{verdict} ({difference:+.2f})".replace("-", "−")


def markdown_rows(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table of ``head`` and ``rows``, without a line break at its end."""
    head = list(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _grid(cells: pd.DataFrame) -> pd.DataFrame:
    """Pivot the cells of one experiment; a cell that nobody has run or published says "–"."""
    grid = cells.pivot(index="method", columns="scenario", values="lines")
    grid = grid.loc[sorted(grid.index, key=method_rank)]
    return grid.map(lambda lines: lines if isinstance(lines, list) else ["–"])


def _notes(margin: float) -> dict[str, str]:
    """Return the notes below a table by the sign in a cell that calls for them."""
    return {
        "paper": f"reproduced: our mean is within {margin:g} percentage points or twice the combined SEM "
        "(whichever is larger) of the published mean, else above or below; in brackets ours minus published.",
        "†": "† published value not checked against its source.",
        "‡": "‡ published by van de Ven & Tolias (2019), not part of the paper's table.",
        "¶": "¶ digit pairs or permutations drawn anew for every seed, in ours as in the published runs; the rows of "
        "hypernetworks have the same for every seed, in both.",
        "§": "§ published with digit pairs or permutations drawn anew for every seed; ours are those of the "
        "hypernetwork rows, the same for every seed.",
    }


def _latex_grid(grid: Grid, columns: int) -> str:
    """Return the rows of one experiment. A line of a cell is a row: LaTeX breaks no line inside a cell."""
    experiment, cells = grid
    blank = [""] * (columns - len(cells.columns))
    blocks = []
    for method, *lines in cells.itertuples():
        rows = zip_longest(*lines, fillvalue="")
        names = chain([method], repeat(""))
        blocks.append("\n".join(_latex_row([name, *row, *blank]) for name, row in zip(names, rows, strict=False)))
    head = _latex_row([experiment, *cells.columns, *blank])
    return f"{head}\n\\midrule\n" + "\n\\addlinespace\n".join(blocks)


def _latex_row(fields: list[str]) -> str:
    return " & ".join(map(_escaped, fields)) + r" \\"


def _escaped(text: str) -> str:
    return text.translate(_LATEX)
