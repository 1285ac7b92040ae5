"""Summarise runs over seeds, compare them with the published values, and set the result as a table.

    python workflow/scripts/make_table.py --runs results/cached/runs.csv --reference config/reference.csv \\
        --margin 0.5 --experiments SplitMNIST PermutedMNIST-10 --title "Table 1" \\
        --summary results/tables/table1_summary.csv --verdicts results/tables/table1_verdicts.csv \\
        --markdown results/tables/table1.md --latex results/tables/table1.tex
"""

import argparse

from hnetcl import tables
from hnetcl.files import written_whole
from hnetcl.records import read_runs, write_table
from hnetcl.verdicts import DEFAULT_MARGIN, add_published_as, as_published, compare, read_reference, summarise


def main() -> None:
    """Read the tidy table and the published values, write the summary, the verdicts and the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, metavar="CSV", help="one row a run and scenario")
    parser.add_argument("--reference", required=True, metavar="CSV", help="published values")
    parser.add_argument("--margin", type=float, default=DEFAULT_MARGIN, help="percentage points that never count")
    parser.add_argument("--experiments", nargs="+", required=True, metavar="TITLE", help="in the order to show")
    parser.add_argument("--title", required=True, help="title of the table")
    parser.add_argument("--summary", required=True, metavar="CSV", help="written: mean and SEM over seeds")
    parser.add_argument("--verdicts", required=True, metavar="CSV", help="written: one row a published value")
    parser.add_argument("--markdown", required=True, metavar="MD", help="written: the table as Markdown")
    parser.add_argument("--latex", required=True, metavar="TEX", help="written: the table as LaTeX")
    add_published_as(parser)
    arguments = parser.parse_args()

    runs, reference = (
        frame[frame["experiment"].isin(arguments.experiments)]
        for frame in (
            as_published(read_runs(arguments.runs), dict(arguments.published_as)),
            read_reference(arguments.reference),
        )
    )
    summary, verdicts = summarise(runs), compare(runs, reference, arguments.margin)
    table = tables.build_table(summary, verdicts, reference, arguments.experiments, arguments.title, arguments.margin)
    write_table(summary, arguments.summary)
    write_table(verdicts, arguments.verdicts)
    for path, text in (
        (arguments.markdown, tables.markdown(table)),
        (arguments.latex, tables.latex(table)),
    ):
        with written_whole(path) as aside:
            aside.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
