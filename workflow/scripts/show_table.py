"""Turn a table of results/tables from Markdown into a page for the report.

python workflow/scripts/show_table.py --markdown results/tables/table1.md --html results/tables/table1.html
"""

import argparse
import html
from pathlib import Path

from hnetcl.files import written_whole

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.4 sans-serif; color: #222; margin: 1.5rem; max-width: 75rem; }}
table {{ border-collapse: collapse; margin: 0.5rem 0 1.5rem; }}
th, td {{ border-bottom: 1px solid #ddd; padding: 0.35rem 0.9rem; text-align: left; vertical-align: top; }}
th {{ border-bottom: 2px solid #888; }}
td:first-child {{ font-weight: bold; }}
.above {{ box-shadow: inset 4px 0 #0072b2; }}
.below {{ box-shadow: inset 4px 0 #d55e00; }}
</style>
{body}
</html>
"""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", required=True, type=Path, help="table as the other scripts write them")
    parser.add_argument("--html", required=True, type=Path, help="written: the page")
    arguments = parser.parse_args()
    blocks = arguments.markdown.read_text(encoding="utf-8").strip().split("\n\n")
    body = "\n".join(map(block_as_html, blocks))
    with written_whole(arguments.html) as aside:
        aside.write_text(PAGE.format(title=html.escape(arguments.markdown.stem), body=body), encoding="utf-8")


def block_as_html(block: str) -> str:
    """Return one block of our tables' Markdown: a heading, a table, a list or a paragraph."""
    lines = html.escape(block, quote=False).replace("&lt;br&gt;", "<br>").splitlines()
    if lines[0].startswith("|"):
        head, _, *rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines)
        names = "".join(f"<th>{name}</th>" for name in head)
        return f"<table>\n<tr>{names}</tr>\n" + "\n".join(map(row_as_html, rows)) + "\n</table>"
    if lines[0].startswith("- "):
        return "<ul>\n" + "\n".join(f"<li>{line.removeprefix('- ')}</li>" for line in lines) + "\n</ul>"
    text = " ".join(lines)
    if text.startswith("### "):
        return f"<h2>{text.removeprefix('### ')}</h2>"
    return f"<h3>{text.strip('*')}</h3>" if text.startswith("**") else f"<p>{text}</p>"


def row_as_html(cells: list[str]) -> str:
    """Return a row; what differs from the published value can be seen from afar."""

    def kind(cell: str) -> str:
        verdict = cell.split("<br>")[-1].split(" ")[0]
        return f' class="{verdict}"' if verdict in ("above", "below") else ""

    return f"<tr>{''.join(f'<td{kind(cell)}>{cell}</td>' for cell in cells)}</tr>"


if __name__ == "__main__":
    main()
