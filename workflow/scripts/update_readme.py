"""Put a table into the README, between the comments <!-- begin NAME --> and <!-- end NAME -->.

python workflow/scripts/update_readme.py --readme README.md --name table1 --markdown results/tables/table1.md
"""

import argparse
import re
import sys
from pathlib import Path

from hnetcl.files import written_whole


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", required=True, type=Path)
    parser.add_argument("--name", required=True, help="name in the two comments")
    parser.add_argument("--markdown", required=True, type=Path, help="table to put between them")
    arguments = parser.parse_args()
    readme = arguments.readme.read_text()
    block = re.compile(rf"(<!-- begin {arguments.name} -->\n).*?(<!-- end {arguments.name} -->)", re.DOTALL)
    table = arguments.markdown.read_text().strip()
    updated, found = block.subn(lambda match: f"{match[1]}{table}\n{match[2]}", readme)
    if found != 1:
        sys.exit(f"update_readme: '{arguments.readme}' has {found} blocks named '{arguments.name}'. Allowed: one.")
    with written_whole(arguments.readme) as aside:
        aside.write_text(updated)


if __name__ == "__main__":
    main()
