"""The workflow as a user meets it: in a copy of the repository, through Snakemake's command line."""

import re
import shutil
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import yaml

from conftest import PAGES, REPOSITORY, SETTINGS, snakemake
from hnetcl import data
from hnetcl.spec import load_experiments

pytestmark = pytest.mark.workflow


def planned(output):
    """Rule names and numbers of jobs from the statistics that a dry run prints."""
    lines = output[output.rindex("Job stats:") :].splitlines()[3:]
    table = [line.split() for line in lines[: next(i for i, line in enumerate(lines) if line.startswith("total"))]]
    return {rule: int(count) for rule, count in table}


def write_tiny_configuration(folder, **changes):
    """Replace the demo by one of a few iterations: a pack of two seeds and a single one."""
    methods = {
        "hnet_ent": SETTINGS["methods"]["hnet_ent"] | {"scenarios": ["cl1", "cl3"]},
        "fine_tune": SETTINGS["methods"]["fine_tune"] | {"scenarios": ["cl1"]},
    }
    settings = SETTINGS | {"seeds": [1, 2, 3], "methods": methods} | changes
    (folder / "config" / "experiments" / "tiny.yaml").write_text(yaml.safe_dump(settings))
    path = folder / "config" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["collections"]["demo"] |= {"experiments": ["tiny"], "seeds_per_job": 2}
    config["collections"]["demo"].pop("samples_of", None)  # no replay
    path.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("target", ["demo", "tables", "figures", "publish", "bench"])
@pytest.mark.parametrize("profile", ["profiles/default", "none"])
def test_every_target_can_be_planned(clone, target, profile):
    code, output = snakemake(clone, "-n", "--cores", "1", "--workflow-profile", profile, target)
    assert code == 0, output


def test_the_default_target_is_the_demo_and_trains_every_method_in_packs(clone):
    code, output = snakemake(clone, "-n", "--cores", "1")
    assert code == 0, output
    jobs = planned(output)
    # HNET+ENT in two trainings, methods with replay in one (four and three of them), others in three (five and four).
    assert jobs["demo"] == 1
    assert jobs["train_pack"] == (2 + 4 + 5 * 3) + (2 + 3 + 4 * 3)


def test_tables_and_figures_from_cached_results_plan_no_training(clone):
    code, output = snakemake(clone, "-n", "--cores", "1", "tables", "figures")
    assert code == 0, output
    shown = ("final_accuracy", "accuracy_matrix", "replay_samples", "confidence", "toy", "landscape", "benchmark")
    drawn = {f"plot_{figure}" for figure in shown}
    assert set(planned(output)) == {
        "tables",
        "figures",
        "make_table",
        "show_table",
        "compare_variants",
        "compare_values",
        "compare_tasks",
        "compare_toy",
        *drawn,
    }


def test_computing_the_paper_plans_every_method_and_seed(clone):
    code, output = snakemake(clone, "-n", "--cores", "1", "table1", "--config", "results_source=compute")
    assert code == 0, output
    # HNET+ENT in two trainings, three methods with replay in one; two baselines and two bounds in three.
    assert planned(output)["train_run"] == 2 * (2 + 3 + 4 * 3) * 20


@pytest.mark.parametrize(("collection", "folder"), [("table1", "split_mnist_per_seed"), ("same_tasks", "split_mnist")])
def test_a_baseline_is_run_once_in_table_1_on_tasks_as_published(clone, collection, folder):
    code, output = snakemake(clone, "-n", "--cores", "1", collection, "--config", "results_source=compute")
    assert code == 0, output
    assert planned(output)["train_run"] == 2 * (2 + 3 + 4 * 3) * 20
    assert set(re.findall(r"results/runs/(split_[a-z_]+)/si/", output)) == {folder}
    assert set(re.findall(r"results/runs/(split_[a-z_]+)/hnet_ent/", output)) == {"split_mnist"}


def test_an_interpreter_that_cannot_import_torch_draws_every_table_and_figure(clone, tmp_path):
    (tmp_path / "without").mkdir()
    for name in ("torch", "torchvision"):
        (tmp_path / "without" / f"{name}.py").write_text(f"raise ImportError('{name} is not to be imported')\n")
    targets = [
        f"results/{kind}/table1{name}"
        for kind, names in {
            "tables": [".csv", "_verdicts.csv", ".md", ".html", ".tex"],
            "figures": [
                f"_{figure}.{kind}"
                for figure in ("final_accuracy", "accuracy_matrix", "replay_samples")
                for kind in ("png", "pdf")
            ],
        }.items()
        for name in names
    ]
    targets += [
        "results/tables/toy.md",
        *(f"results/figures/{n}.png" for n in ("toy", "split_mnist_plane", "benchmark")),
    ]
    code, output = snakemake(clone, "--cores", "1", "tables", "figures", PYTHONPATH=str(tmp_path / "without"))
    assert code == 0, output
    for target in targets:
        assert (clone / target).stat().st_size > 0
        assert target in output  # the last screen names what was made


def test_the_report_is_one_page_with_a_chapter_that_holds_all_of_table_1(clone):
    for arguments in (("table1",), ("--report", "report.zip", "table1")):
        code, output = snakemake(clone, "--cores", "2", *arguments)
        assert code == 0, output
    with zipfile.ZipFile(clone / "report.zip") as report:
        page = report.read("report/report.html").decode()
        packed = {Path(name).name: report.read(name) for name in report.namelist() if "/data/" in name}
    figures = ("final_accuracy", "accuracy_matrix", "replay_samples")
    artefacts = [f"results/figures/table1_{figure}.png" for figure in figures]
    artefacts += [f"results/tables/table1{end}" for end in (".html", ".csv", "_verdicts.csv")]
    for artefact in artefacts:
        assert artefact in page
        assert packed[Path(artefact).name] == (clone / artefact).read_bytes()
    for words in (
        "01 table1",
        "Table 1 of von Oswald et al. (2020)",
        "results/cached/runs.csv",
        "1 table",
        "make_table",
    ):
        assert words in page  # chapter, front page, where numbers come from, what is first, graph
    assert "{{" not in page[page.index("A reproduction of") :][:3000]


def test_cached_verdicts_follow_from_cached_runs(clone):
    code, output = snakemake(clone, "--cores", "1", "results/tables/table1_verdicts.csv")
    assert code == 0, output
    made = pd.read_csv(clone / "results/tables/table1_verdicts.csv")
    cached = pd.read_csv(clone / "results/cached/verdicts.csv")
    pd.testing.assert_frame_equal(made, cached)


def test_a_small_sequence_goes_from_training_to_table_and_figures(clone):
    write_tiny_configuration(clone)
    code, output = snakemake(clone, "--cores", "2", "--config", "device=cpu")
    assert code == 0, output
    runs = pd.read_csv(clone / "results/tables/demo_runs.csv")
    seeds = runs.groupby(["method", "scenario"])["seed"].apply(list)
    assert set(seeds.index) == {("HNET+ENT", "CL1"), ("HNET+ENT", "CL3"), ("None (fine-tune)", "CL1")}
    assert all(found == [1, 2, 3] for found in seeds)
    assert "HNET+ENT" in output[output.rindex("## ") :]
    assert not list((clone / "results/checkpoints").rglob("*.pt"))

    code, output = snakemake(clone, "--cores", "2", "--config", "device=cpu")
    assert "Nothing to be done" in output

    optimisation = SETTINGS["optimisation"] | {"learning_rate": 0.02}
    write_tiny_configuration(clone, optimisation=optimisation)
    code, output = snakemake(clone, "-n", "--cores", "2", "--config", "device=cpu")
    jobs = planned(output)
    assert jobs["train_pack"] == jobs["train_run"] == 2


VALUES_OF = {"title": "Mine", "layout": "values", "experiments": ["permuted_mnist_beta"], "seeds_per_job": 1}


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.yaml", {"results_source": "maybe"}, ["results_source", "'maybe'", "'cached'", "'compute'"]),
        ("config.yaml", {"colour": "red"}, ["unknown key 'colour'", "verdict_margin"]),
        ("config.yaml", {"train_threads": "two"}, ["train_threads", "'two'", "integer"]),
        (
            "config.yaml",
            {"collections": {"mine": VALUES_OF | {"values_of": "methods.hnet_ent.regulariser.form"}}},
            ["collections.mine.values_of", "'auto'", "compression, or a key that is a number above 0"],
        ),
        (
            "config.yaml",
            {"collections": {"mine": VALUES_OF}},
            ["collections.mine.values_of = None", "permuted_mnist_beta/beta-0.001"],
        ),
        (
            "config.yaml",
            {"collections": {"mine": VALUES_OF | {"layout": "variants", "experiments": ["split_mnist_per_seed"]}}},
            ["collections.mine.layout = 'variants'", "'split_mnist_per_seed'", "Allowed: layout methods or tasks"],
        ),
        ("experiments/split_digits.yaml", {"seeds": [1, "two"]}, ["seeds.1", "'two'", "integer"]),
        ("experiments/split_digits.yaml", {"dataset": "letters"}, ["dataset", "'letters'", "'mnist'"]),
        ("experiments/split_digits.yaml", {"methods": {"sgd": {}}}, ["unknown key 'sgd'", "hnet_ent", "joint"]),
        (
            "experiments/split_digits.yaml",
            {"methods": {"joint": {"scenarios": ["cl4"], "reset_optimiser": False}}},
            ["methods.joint.scenarios.0", "'cl4'", "'cl1'"],
        ),
    ],
)
def test_a_bad_configuration_stops_before_any_job_and_says_what_is_allowed(clone, file, change, words):
    path = clone / "config" / file
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    code, output = snakemake(clone, "--cores", "1")
    assert code != 0
    assert file in output
    for word in words:
        assert word in output
    assert not list((clone / "results").glob("[!c]*"))  # nothing but results/cached
    assert "Traceback" not in output


def test_an_experiment_that_does_not_exist_is_named_with_those_that_do(clone):
    path = clone / "config" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["collections"]["demo"]["experiments"] = ["split_letters"]
    path.write_text(yaml.safe_dump(config))
    code, output = snakemake(clone, "--cores", "1")
    assert code != 0
    assert "split_letters.yaml" in output
    assert "split_digits" in output


@pytest.mark.parametrize(
    ("key", "wrong", "allowed"),
    [
        ("confidence_of", "split_mnist_entropy/relaesed", "split_mnist_entropy/released"),
        ("samples_of", "split_mnist_entropy/released", "split_digits"),  # which has no replay
    ],
)
def test_to_look_into_an_experiment_that_is_not_run_is_refused(clone, key, wrong, allowed):
    path = clone / "config" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["collections"]["entropy"][key] = wrong if key == "confidence_of" else ["split_mnist", wrong]
    path.write_text(yaml.safe_dump(config))
    code, output = snakemake(clone, "--cores", "1")
    assert code != 0
    for word in (f"collections.entropy.{key}", f"'{wrong}'", allowed):
        assert word in output
    assert "Traceback" not in output


def test_other_hyperparameters_repeat_what_is_measured_beside_the_records(clone):
    measured = ["results/tables/entropy_confidence.csv", "results/samples/split_mnist.npz"]
    (clone / "results/datasets").mkdir()
    for dataset in ("mnist", "mnist_validation"):
        (clone / f"results/datasets/{dataset}.npz").touch()
    for script in ("measure_confidence", "sample_replay"):  # only when they are run matters here, not what they do
        path = clone / f"workflow/scripts/{script}.py"
        path.write_text("import sys; open(sys.argv[sys.argv.index('--output') + 1], 'w').close()")
    code, output = snakemake(clone, "--cores", "1", *measured)
    assert code == 0, output
    code, output = snakemake(clone, "-n", "--cores", "1", *measured)
    assert "Nothing to be done" in output, output
    path = clone / "config/experiments/split_mnist.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["optimisation"]["learning_rate"] = 0.002
    path.write_text(yaml.safe_dump(settings))
    code, output = snakemake(clone, "-n", "--cores", "1", *measured)
    assert planned(output) == {"measure_confidence": 1, "sample_replay": 1}


def test_a_results_directory_that_cannot_be_written_stops_before_any_job(clone):
    shutil.rmtree(clone / "results")
    (clone / "results").write_text("a file where a directory should be")
    code, output = snakemake(clone, "--cores", "1")
    assert code != 0
    assert "cannot write to the directory 'results'" in output
    assert "Training" not in output


def test_the_pages_show_the_tables_that_the_cached_results_give(clone):
    names = re.search(r"PAGE_TABLES = \[(.*?)\]", (REPOSITORY / "workflow/rules/aggregate.smk").read_text(), re.DOTALL)
    names = re.findall(r'"(\w+)"', names[1])
    tables = [f"results/tables/{name}.md" for name in names]
    code, output = snakemake(clone, "--cores", "1", *tables)
    assert code == 0, output
    for table in [*tables, "results/cached/benchmark/summary.md"]:
        assert (clone / table).read_text().strip() in "".join(page.read_text() for page in PAGES), table


def test_a_change_of_device_or_place_of_data_repeats_no_training_and_a_lost_table_none_either(clone):
    write_tiny_configuration(clone)
    code, output = snakemake(clone, "--cores", "2", "--config", "device=auto")
    assert code == 0, output
    for change in ("device=cpu", "checkpoint_seconds=7", "data_dir=elsewhere"):
        code, output = snakemake(clone, "-n", "--cores", "2", "--config", change)
        assert "Nothing to be done" in output, output
    record = clone / "results/runs/tiny/fine_tune/cl1/seed-3.json"
    before = record.read_bytes()
    code, output = snakemake(clone, "--cores", "2", "--forcerun", "train_run")
    assert code == 0, output
    assert record.read_bytes() == before  # kept, not trained anew: it fits its specification


def yaml_of_the_readme():
    """The YAML that the README prints, by the file that its first line names."""
    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    return {path: block for path, block in blocks if path.startswith("config/")}


def test_the_experiment_that_the_readme_adds_by_yaml_alone_can_be_run(clone):
    shorter = clone / "config/experiments/split_digits.yaml"  # what it extends, for the test's sake
    shorter.write_text(re.sub("iterations: .*", "iterations: 5", shorter.read_text()))
    printed = yaml_of_the_readme()
    collections = yaml.safe_load(printed.pop("config/config.yaml"))["collections"]
    for path, text in printed.items():
        (clone / path).write_text(text)
    path = clone / "config/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["collections"] |= collections
    path.write_text(yaml.safe_dump(config))
    (name,) = collections
    code, output = snakemake(clone, "--cores", "2", name)
    assert code == 0, output
    assert collections[name]["title"] in output
    assert (clone / f"results/figures/{name}_final_accuracy.png").stat().st_size > 0
    load_experiments(clone / "config" / "experiments", [Path(experiment).stem for experiment in printed])
    runs = pd.read_csv(clone / f"results/tables/{name}_runs.csv")
    layers = [64, *yaml.safe_load(printed["config/experiments/small_digits.yaml"])["changes"]["target.hidden"], 2]
    weights = sum(a * b + b for a, b in pairwise(layers))
    assert weights in set(runs[runs["scenario"] == "CL2"]["target_parameters"])


def test_two_experiments_of_one_title_are_refused(clone):
    shutil.copy(clone / "config/experiments/split_digits.yaml", clone / "config/experiments/copy.yaml")
    path = clone / "config/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["collections"]["demo"]["experiments"].append("copy")
    path.write_text(yaml.safe_dump(config))
    code, output = snakemake(clone, "-n", "--cores", "1")
    assert code != 0
    assert "title = 'Split digits'" in output


def test_publishing_without_a_finished_run_says_so_and_changes_nothing(clone):
    before = (clone / "results/cached/runs.csv").read_bytes()
    code, output = snakemake(clone, "--cores", "1", "publish")
    assert code != 0
    assert "no record of a finished run" in output
    assert (clone / "results/cached/runs.csv").read_bytes() == before


def test_finished_runs_are_published_and_put_into_the_pages(clone):
    write_tiny_configuration(clone)
    path = clone / "config/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["collections"]["table1"]["experiments"].append("tiny")
    path.write_text(yaml.safe_dump(config))
    shutil.copy(REPOSITORY / "README.md", clone)
    shutil.copytree(REPOSITORY / "docs", clone / "docs", ignore=shutil.ignore_patterns("*.png"))
    before = pd.read_csv(clone / "results/cached/runs.csv")
    drawn = clone / "results/samples/split_mnist_replay"
    drawn.mkdir(parents=True)
    for name in ("gan.npz", ".gan.npz.left.npz"):  # the second as a kill leaves it
        (drawn / name).write_bytes(b"images")
    targets = [f"results/runs/tiny/fine_tune/cl1/seed-{seed}.json" for seed in (1, 2)]
    for arguments in (targets, ["publish"], ["readme"]):
        code, output = snakemake(clone, "--cores", "1", *arguments)
        assert code == 0, output
    after = pd.read_csv(clone / "results/cached/runs.csv")
    assert after[after["experiment"] == "Tiny"]["seed"].tolist() == [1, 2]
    published = clone / "results/cached/replay_samples/split_mnist_replay"
    assert (published / "gan.npz").exists() and not list(published.glob(".*"))
    assert len(after) == len(before) + 2
    mean = after[after["experiment"] == "Tiny"]["mean_final"].mean()
    (row,) = re.findall(r"\*\*Tiny\*\*.*?(\| None \(fine-tune\) .*?)\n", (clone / "README.md").read_text(), re.DOTALL)
    assert f"{mean:.2f} ± " in row and "(n=2)" in row
    assert (clone / "docs/table1_final_accuracy.png").stat().st_size > 0


def test_a_second_snakemake_on_the_same_directory_is_told_so_and_harms_nothing(clone):
    target = "results/datasets/digits.npz"
    script = clone / "workflow/scripts/prepare_dataset.py"  # which waits, so that the two do meet
    wait = (
        "import pathlib, time\npathlib.Path('begun').touch()\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)\n"
    )
    script.write_text(wait + script.read_text())
    with ThreadPoolExecutor() as pool:
        first = pool.submit(snakemake, clone, "--cores", "1", target)
        while not (clone / "begun").exists():
            assert not first.done(), first.result()
            time.sleep(0.05)
        code, output = snakemake(clone, "--cores", "1", target)
        assert code != 0
        assert "cannot be locked" in output and "--unlock" in output and "Traceback" not in output
        assert not (clone / target).exists()
        (clone / "go").touch()
        code, output = first.result()
    assert code == 0, output
    assert data.load(clone / target).name == "digits"
