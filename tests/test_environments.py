"""The conda environments pin what uv.lock pins, so that both ways of installing give the same versions."""

import re
import tomllib

import pytest
import yaml

from conftest import REPOSITORY

CONDA_NAMES = {"pytorch": "torch", "snakemake-minimal": "snakemake"}
ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))
LOCKED = {
    package["name"]: package.get("version")
    for package in tomllib.loads((REPOSITORY / "uv.lock").read_text())["package"]
}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_a_conda_environment_names_its_channels_and_pins_what_the_lock_pins(path):
    environment = yaml.safe_load(path.read_text())
    assert environment["channels"][0] == "conda-forge"
    assert environment["channels"][-1] == "nodefaults"
    for requirement in environment["dependencies"]:
        name, version = re.fullmatch(r"([a-z-]+) =([0-9.]+)", requirement).groups()
        if name != "python":
            assert LOCKED[CONDA_NAMES.get(name, name)] == version, requirement


def test_every_environment_of_a_rule_exists():
    rules = "".join(path.read_text() for path in (REPOSITORY / "workflow" / "rules").glob("*.smk"))
    named = set(re.findall(r'"\.\./\.\./envs/(\w+)\.yaml"', rules))
    assert named
    assert named <= {path.stem for path in ENVIRONMENTS}


def test_the_lock_names_no_private_registry():
    text = (REPOSITORY / "uv.lock").read_text()
    assert set(re.findall(r"https?://([^/\"]+)", text)) == {"pypi.org", "files.pythonhosted.org"}
