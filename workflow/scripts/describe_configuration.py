"""Write the description of every configuration key, with what is allowed, from the schemas that check them.

python workflow/scripts/describe_configuration.py --output config/README.md
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from hnetcl.files import written_whole
from hnetcl.spec import SCHEMAS, allowed

INTRODUCTION = """\
# Configuration

<!-- Made by workflow/scripts/describe_configuration.py from config/schemas: change those, then run it. -->

`config.yaml` says what tables and figures are made of and how trainings are run. Each file of `experiments/` is an
experiment, or extends another one, once or in variants. `toy.yaml` is the regression of figure 2, and `reference.csv`
has the published values. All of it is checked before any job starts. `snakemake --config results_source=compute` takes
the place of a value in `config.yaml` for one call.

Below, dots join sections and `*` stands for any name. What is not required may be left out.
"""

Schema = dict[str, Any]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="MD", help="written: the description")
    arguments = parser.parse_args()
    chapters = [chapter(yaml.safe_load(path.read_text()), shipped(path)) for path in sorted(SCHEMAS.glob("*.yaml"))]
    with written_whole(arguments.output) as aside:
        aside.write_text("\n".join([INTRODUCTION, *chapters]), encoding="utf-8")


def shipped(schema: Path) -> Any:
    """Return the content of the file that the schema describes, where there is just one."""
    file = schema.parents[1] / f"{schema.name.removesuffix('.schema.yaml')}.yaml"
    return yaml.safe_load(file.read_text()) if file.exists() else None


def chapter(schema: Schema, values: Any) -> str:
    """Return a table of the schema's keys, and one of each section that several keys share."""
    parts = schema.get("$defs", {})
    blocks = [f"## {schema['title']}", schema["description"], table(rows(schema, parts, values))]
    for name, part in parts.items():
        if "properties" in part:
            blocks += [f"### {name}", part["description"], table(rows(part, parts))]
    return "\n\n".join(blocks) + "\n"


def table(lines: Iterator[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    head = ("key", "allowed", "default", "what it is")
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in (head, ("---",) * len(head), *lines))
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def rows(section: Schema, parts: Schema, values: Any = None, prefix: str = "") -> Iterator[tuple[str, ...]]:
    """Yield a row for each key of ``section`` and of sections in it; ``values`` are those that it ships with."""
    keys = dict(section.get("properties", {}))
    if isinstance(section.get("additionalProperties"), dict):
        keys["*"] = section["additionalProperties"]
    for name, own in keys.items():
        value = values.get(name) if isinstance(values, dict) else None
        whole = resolved(own, parts)
        default = "required" if name in section.get("required", ()) else ""
        if "default" in whole:
            default = code(whole["default"])
        elif value is not None and not isinstance(value, dict):
            default += f", {code(value)} as shipped"
        yield f"`{prefix}{name}`", permitted(own, parts), default, whole["description"]
        if whole is own:
            yield from rows(own, parts, value, f"{prefix}{name}.")


def resolved(schema: Schema, parts: Schema) -> Schema:
    """Return ``schema`` itself or, where it refers to a shared part, that with what ``schema`` adds to it."""
    return parts[reference(schema)] | schema if "$ref" in schema else schema


def reference(schema: Schema) -> str:
    """Return the name of the shared part that ``schema`` refers to."""
    return schema["$ref"].removeprefix("#/$defs/")


def permitted(schema: Schema, parts: Schema) -> str:
    """Return in words what a value may be."""
    whole = resolved(schema, parts)
    kind = whole.get("type")
    if "properties" in whole and "$ref" in schema:
        return f"section [{reference(schema)}](#{reference(schema)})"
    names = {"object": "section", "array": "list"}
    kinds = [kind] if isinstance(kind, str) else kind or []
    words = [" or ".join(names.get(name, name) for name in kinds)] if kinds else []
    if "pattern" in whole:
        words.append(f"matches {code(whole['pattern'])}")
    words += [text for keyword, value in whole.items() if keyword != "type" and (text := allowed(keyword, value))]
    if "items" in whole:
        words.append(f"each: {permitted(whole['items'], parts)}")
    return ", ".join(words)


def code(value: Any) -> str:
    """Return ``value`` as YAML has it."""
    return f"`{json.dumps(value)}`" if isinstance(value, bool | list) else f"`{value}`"


if __name__ == "__main__":
    main()
