"""What is written about the configuration is what the schemas and the code say."""

import re
import sys

import pytest
import torch
import yaml

import describe_configuration
from conftest import REPOSITORY, tensors_of
from hnetcl.catalogue import METHODS
from hnetcl.spec import SCHEMAS
from hnetcl.tasks import TaskSequence


def test_the_description_of_the_configuration_is_that_of_the_schemas(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["describe_configuration.py", "--output", str(tmp_path / "made.md")])
    describe_configuration.main()
    assert (REPOSITORY / "config" / "README.md").read_text() == (tmp_path / "made.md").read_text(), (
        "run workflow/scripts/describe_configuration.py --output config/README.md"
    )


def keys_of(schema):
    """The name of every key anywhere in a schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}) if isinstance(schema.get("properties"), dict) else ()
        for part in schema.values():
            yield from keys_of(part)


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_key_is_described(path):
    schema = yaml.safe_load(path.read_text())
    chapter = (REPOSITORY / "config" / "README.md").read_text().split(f"## {schema['title']}\n")[1].split("\n## ")[0]
    rows = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in chapter.splitlines() if line.startswith("| `")]
    assert {row[0].strip("`").split(".")[-1] for row in rows} - {"*"} == set(keys_of(schema))
    for key, allowed, _, description in rows:
        assert allowed and description and description != key


def described_defaults(schema, whole, prefix=""):
    """Yield (key, its default) for every key of an experiment that has one."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    for name, part in schema.get("properties", {}).items():
        if "default" in part:
            yield f"{prefix}{name}", part["default"]
        yield from described_defaults(part, whole, f"{prefix}{name}.")


EXPERIMENT = yaml.safe_load((SCHEMAS / "experiment.schema.yaml").read_text())
# Sections that methods share are looked at in the first of them.
DEFAULTS = {
    key.rpartition(".")[2]: (key, value) for key, value in reversed([*described_defaults(EXPERIMENT, EXPERIMENT)])
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_key_that_is_left_out_has_the_default_that_is_described(make_spec, dataset, name):
    key, default = DEFAULTS[name]
    method, training = ("hnet_r", "cl1-cl2-cl3") if "hnet_r" in key else ("hnet_ent", "cl1-cl3")

    def weights(changes):
        spec = make_spec(method, training, {"optimisation.iterations": 3} | changes)
        sequence = TaskSequence(spec, [1], dataset)
        trained = METHODS[method].load()(spec, sequence)
        for task in range(2):
            trained.begin_task(task)
            stage = sequence.training_stage(task, seen=False, iterations=3, batch_size=8)
            for iteration in range(3):
                trained.step(stage[iteration], iteration)
            trained.end_task(task)
        return tensors_of(trained.state_dict())

    expected, found = weights({}), weights({key: default})
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def test_the_catalogue_of_workflows_is_told_what_it_asks_for():
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"]["conda"] is True
    assert usage["report"] is True
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
