"""The conda environments pin what uv.lock pins, so that both ways of installing give the same versions."""

import ast
import re
import shutil
import subprocess
import sys
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


def test_the_image_is_given_all_that_making_the_environment_needs(tmp_path):
    lines = (REPOSITORY / "envs" / "Containerfile").read_text().splitlines()
    (copied,) = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    for file in copied:
        shutil.copy(REPOSITORY / file, tmp_path)
    (command,) = [line.removeprefix("RUN ").partition(" && ")[0] for line in lines if line.startswith("RUN make")]
    dry = subprocess.run([*command.split(), "--dry-run"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "sync --frozen" in dry.stdout
    kept = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert [line.removeprefix("!") for line in kept if line.startswith("!")] == copied


def test_every_environment_of_a_rule_exists():
    rules = "".join(path.read_text() for path in (REPOSITORY / "workflow" / "rules").glob("*.smk"))
    named = set(re.findall(r'"\.\./\.\./envs/(\w+)\.yaml"', rules))
    assert named
    assert named <= {path.stem for path in ENVIRONMENTS}


def test_the_lock_names_no_private_registry():
    text = (REPOSITORY / "uv.lock").read_text()
    assert set(re.findall(r"https?://([^/\"]+)", text)) == {"pypi.org", "files.pythonhosted.org"}


def imported(script):
    """Top-level modules that a script needs, its library modules' included (but not what functions import)."""
    scripts = REPOSITORY / "workflow" / "scripts"
    waiting, seen, found = [scripts / script], set(), set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.startswith("hnetcl"):
                    waiting.append(scripts / f"{name.replace('.', '/')}.py")
                else:
                    found.add(name.split(".")[0])
        if path.name == "catalogue.py" and script == "train_run.py":  # which alone loads the methods
            waiting.extend((scripts / "hnetcl" / "methods").glob("*.py"))
    return found - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("script", "environment"),
    [
        ("prepare_dataset.py", "train"),
        ("train_run.py", "train"),
        ("collect_runs.py", "results"),
        ("make_table.py", "results"),
        ("plot_final_accuracy.py", "results"),
        ("plot_accuracy_matrix.py", "results"),
        ("publish_results.py", "results"),
        ("update_pages.py", "results"),
    ],
)
def test_a_conda_environment_holds_all_that_its_scripts_import(script, environment):
    modules = {"pyyaml": "yaml", "scikit-learn": "sklearn", "pytorch": "torch"}
    listed = yaml.safe_load((REPOSITORY / "envs" / f"{environment}.yaml").read_text())["dependencies"]
    available = {modules.get(name, name) for name in (requirement.split()[0] for requirement in listed)}
    assert imported(script) <= available
