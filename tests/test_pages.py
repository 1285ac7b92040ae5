"""Every command of the pages is run here, planned here and marked with what it needs, or run by a test named here."""

import re
import shutil
import subprocess

import pytest

from conftest import PAGES, REPOSITORY, copy_repository, snakemake

TEXT = "\n\n".join(page.read_text() for page in PAGES)
PROGRAMS = ("make", "snakemake", "python", "pytest", "podman")
NEEDS = r"network|GPU|cluster|minutes?|hours?"

# Run as they stand, one after the other in one copy of the repository.
RUN = [
    "snakemake --cores all tables figures",
    "snakemake --cores all table1",
    "snakemake --report report.zip tables figures",
    "python workflow/scripts/trace_cell.py --experiment SplitMNIST --method SI --scenario CL3",
    "snakemake --cores all same_tasks",
    "snakemake -n -p demo",
    "snakemake -n tables figures --config results_source=compute",
    "snakemake -n --workflow-profile profiles/slurm demo",
]
# Planned as they stand, and marked.
PLANNED = [
    "snakemake --cores all stage",
    "snakemake --cores all results/runs/split_mnist/hnet_ent/cl1-cl3/seed-7.json",
    "snakemake --cores all table1 --config results_source=compute",
    "snakemake --cores all toy --config results_source=compute",
    "snakemake --cores all results/figures/split_mnist_plane.png --config results_source=compute",
    "snakemake --cores all entropy entropy_test --config results_source=compute",
    "snakemake --cores all separate --config results_source=compute",
    "snakemake --cores all long --config results_source=compute",
    "snakemake --cores all compression --config results_source=compute",
    "snakemake --cores all ablations --config results_source=compute",
    "snakemake --cores all transfer --config results_source=compute",
    "snakemake --cores all beta --config results_source=compute",
    "snakemake --cores all ewc_strength --config results_source=compute",
    "snakemake --cores 1 results/packs/permuted_mnist/hnet_ent/cl1-cl3/seeds-"
    + "-".join(map(str, range(1, 21)))
    + ".txt --config device=cuda",
    "snakemake --cores 1 results/packs/split_mnist/hnet_ent/cl1-cl3/seeds-"
    + "-".join(map(str, range(1, 21)))
    + ".txt --config device=cuda matmul_precision=tf32",
    "snakemake --cores all cifar --config results_source=compute device=cuda",
    "snakemake --workflow-profile profiles/slurm demo",
    "snakemake --workflow-profile profiles/slurm table1 --config results_source=compute",
]
# What the Makefile gives to Snakemake is planned; .ci/run runs those that the continuous integration can afford.
MADE = ["make env", "make demo", "make test", "make lint", "make clean", "make bench", "make bench BENCH=quick"]
# Run by another test, or by none since it needs what no test has.
ELSEWHERE = {
    "python workflow/scripts/measure_iteration_cost.py --experiment config/experiments/permuted_mnist.yaml"
    " --device cuda --threads 4 --iterations 60 --methods hnet_ent fine_tune --tasks 2 --packs 1 2 4 8 20"
    " --output packs.csv": "GPU",
    "python workflow/scripts/measure_iteration_cost.py --experiment config/experiments/permuted_mnist_100.yaml"
    " --methods hnet_ent --threads 2 --iterations 30 --tasks 2 10 34 100 --output long.csv": "minutes",
    "snakemake --cores 1 publish": "test_workflow.py::test_finished_runs_are_published_and_put_into_the_pages",
    "snakemake --cores 1 readme": "test_workflow.py::test_finished_runs_are_published_and_put_into_the_pages",
    "snakemake --cores all small_digits": "test_workflow.py::test_the_experiment_that_the_readme_adds",
    'pytest -m "not workflow"': "test_pages.py::test_what_takes_minutes_is_run_by_the_continuous_integration",
    "pytest tests/test_FILE.py -k WORDS": "test_faults.py::test_the_page_of_faults_names_a_test_for_every_one",
    "snakemake --sdm conda --cores all demo": "network",
    "podman build --file envs/Containerfile --tag hnetcl .": "network",
    'podman run --rm --volume "$PWD:/repository" hnetcl snakemake --cores all': "minutes",
}


def printed_commands():
    """Yield (command, what stands beside it): the line of a block, the paragraph of a command in the text."""
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL):
        above = ""
        for line in block.splitlines():
            if line.startswith("#"):
                above = line
                continue
            command, _, comment = line.partition("  #")
            for part in command.split(" && "):
                yield part.strip(), above + comment
            above = ""
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    for paragraph in re.split(r"\n\n|\n\||\n- ", prose):
        for code in re.findall(r"`([^`]+)`", paragraph):
            if code.startswith(tuple(f"{program} " for program in PROGRAMS)):
                yield " ".join(code.split()), paragraph


COMMANDS = list(printed_commands())


def test_every_command_of_the_pages_is_accounted_for():
    printed = {command for command, _ in COMMANDS} - {"source .venv/bin/activate"}
    assert printed == {*RUN, *PLANNED, *MADE, *ELSEWHERE}


def test_a_command_that_no_test_runs_is_marked_with_what_it_needs():
    run_by_a_test = {*RUN, *MADE, *(command for command, test in ELSEWHERE.items() if "::" in test)}
    for command, beside in COMMANDS:
        if command not in run_by_a_test and not command.startswith("source "):
            assert re.search(NEEDS, beside), f"{command}: say beside it what it needs ({NEEDS})"


@pytest.mark.parametrize(("command", "test"), ELSEWHERE.items())
def test_what_is_run_elsewhere_is_run_there(command, test):
    if "::" in test:
        file, name = test.split("::")
        assert re.search(rf"^def {name}", (REPOSITORY / "tests" / file).read_text(), re.MULTILINE)
    else:
        assert any(re.search(test, beside) for printed, beside in COMMANDS if printed == command)


@pytest.mark.workflow
def test_commands_of_the_pages_run_as_they_stand(clone):
    for command in RUN:
        program, *arguments = command.split()
        if program == "snakemake":
            code, output = snakemake(clone, *arguments)
        else:
            done = subprocess.run(command.split(), cwd=clone, capture_output=True, text=True)
            code, output = done.returncode, done.stdout + done.stderr
        assert code == 0, f"{command}\n{output}"


@pytest.fixture(scope="module")
def planning_clone(tmp_path_factory):
    return copy_repository(tmp_path_factory.mktemp("planning") / "clone")


@pytest.mark.workflow
@pytest.mark.parametrize("command", PLANNED)
def test_commands_that_take_long_can_be_planned_as_they_stand(planning_clone, command):
    code, output = snakemake(planning_clone, "--dry-run", *command.split()[1:])
    assert code == 0, output
    assert "Job stats:" in output


@pytest.mark.workflow
@pytest.mark.parametrize("command", MADE)
def test_what_make_calls_can_be_planned(planning_clone, command):
    shutil.copy(REPOSITORY / "Makefile", planning_clone)
    for file in ("pyproject.toml", "uv.lock"):
        shutil.copy(REPOSITORY / file, planning_clone)
    dry = subprocess.run(
        [*command.split(), "--dry-run"], cwd=planning_clone, capture_output=True, text=True, check=True
    )
    assert "sync --frozen" in dry.stdout or command == "make clean"
    for arguments in re.findall(r" snakemake (.*)", dry.stdout):
        code, output = snakemake(planning_clone, "--dry-run", *arguments.split())
        assert code == 0, output
    if command not in ("make env", "make clean"):
        assert re.search(r" snakemake | -m pytest", dry.stdout)


def test_what_takes_minutes_is_run_by_the_continuous_integration():
    run = (REPOSITORY / ".ci" / "run").read_text().splitlines()
    assert {"make demo", "make lint", "make test"} <= set(run)


def anchors(page):
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_of_a_page_are_there(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target
