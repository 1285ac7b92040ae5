"""What is written about the configuration is what the schemas and the code say."""

import re
import sys
from copy import deepcopy

import pytest
import torch
import yaml

import describe_configuration
from conftest import REPOSITORY, SETTINGS, tensors_of
from hnetcl.catalogue import METHODS
from hnetcl.spec import SCHEMAS, load_experiment
from hnetcl.tasks import TaskSequence
from test_convolutional import CIFAR_TASKS, COLOUR, coloured


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


# Another value, which must make a difference, and what else it takes to make one.
OTHERS = {
    "mean_over_classes": (True, {}),
    "model": ("gan", {}),
    "perfect_replay": (True, {}),
    "reference": ("present", {}),
    "look_ahead": (False, {}),
    "restart": (True, {"methods.hnet_ent.scenarios": ["cl1"], "methods.hnet_ent.regulariser.beta": 0.0}),
    "embedding_noise": (1.0, {}),
    "embedding_start": ("previous", {}),
    "normalisation_statistics": ("shared", COLOUR | {"sequence": CIFAR_TASKS}),
    "padding": (2, {}),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_key_that_is_left_out_has_the_default_that_is_described(write_experiment, dataset, name):
    key, default = DEFAULTS[name]
    method = key.split(".")[1] if key.startswith("methods.") else "hnet_ent"
    other, needed = OTHERS[name]
    # Methods of the test's settings share sections.
    alone = {f"methods.{method}": deepcopy(SETTINGS["methods"][method])}
    images = coloured() if "dataset" in needed else dataset

    def state(changes):
        experiment = load_experiment(write_experiment(alone | needed | {"optimisation.iterations": 3} | changes))
        training = next(training for of, training in experiment.trainings() if of == method)
        spec = experiment.spec(method, training, 1)
        sequence = TaskSequence(spec, [1], images)
        trained = METHODS[method].load()(spec, sequence)
        for task in range(2):
            trained.begin_task(task)
            stage = sequence.training_stage(task, seen=False, iterations=3, batch_size=8)
            for iteration in range(3):
                trained.step(stage[iteration], iteration)
            trained.end_task(task)
        return tensors_of(trained.state_dict())

    def same(first, second):
        return first.keys() == second.keys() and all(torch.equal(value, second[part]) for part, value in first.items())

    left_out = state({})
    assert same(left_out, state({key: default}))
    assert not same(left_out, state({key: other}))


def test_the_catalogue_of_workflows_is_told_what_it_asks_for():
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"]["conda"] is True
    assert usage["report"] is True
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
