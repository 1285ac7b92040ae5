"""Put a table into the page that has a place for it, between the comments <!-- begin NAME --> and <!-- end NAME -->.

python workflow/scripts/update_pages.py --pages README.md docs/*.md --name table1 --markdown results/tables/table1.md
"""

import argparse
import re
import sys
from pathlib import Path

from hnetcl.files import written_whole


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", required=True, nargs="+", type=Path, metavar="PAGE", help="pages to look in")
    parser.add_argument("--name", required=True, help="name in the two comments")
    parser.add_argument("--markdown", required=True, type=Path, help="table to put between them")
    arguments = parser.parse_args()
    block = re.compile(rf"(<!-- begin {arguments.name} -->\n).*?(<!-- end {arguments.name} -->)", re.DOTALL)
    texts = {page: page.read_text() for page in arguments.pages}
    places = [page for page, text in texts.items() for _ in block.findall(text)]
    if len(places) != 1:
        looked = ", ".join(map(str, arguments.pages))
        sys.exit(f"update_pages: {looked} have {len(places)} blocks named '{arguments.name}'. Allowed: one.")
    table = arguments.markdown.read_text().strip()
    with written_whole(places[0]) as aside:
        aside.write_text(block.sub(lambda match: f"{match[1]}{table}\n{match[2]}", texts[places[0]]))


if __name__ == "__main__":
    main()
