"""What the benchmark measures, counts and sums up."""

import json
import sys
from itertools import pairwise

import pandas as pd
import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

import compare_iterations
import measure_iteration_cost
import measure_limit
import measure_peers
import measure_regulariser
import plot_benchmark
import summarise_benchmark
from conftest import PERMUTED, SETTINGS, make_dataset
from hnetcl import data, timing
from hnetcl import figure_style as style
from hnetcl.provenance import with_machine
from hnetcl.spec import ConfigurationError, load_experiment
from peers.hypercl import old_order

pytestmark = pytest.mark.usefixtures("unprepared")

CPU = torch.device("cpu")
REGULARISER = pd.DataFrame(
    [
        (title, tasks, form, cost, cost * 10, 1.0)
        for title, form, costs in [
            ("PermutedMNIST-10", "exact", (3.0, 3.6)),
            ("PermutedMNIST-10", "explicit", (90.0, 1800.0)),
            ("PermutedMNIST-100", "exact", (60.0, 400.0)),
            ("PermutedMNIST-100", "explicit", (300.0, 5000.0)),
        ]
        for tasks, cost in zip((9, 99), costs, strict=True)
    ],
    columns=["experiment", "tasks", "form", "milliseconds", "peak_mb", "stored_mb"],
)


def iteration_rows(title, method, costs, pack=1, device="cpu"):
    rows = [(title, "CL1", method, pack, device, task + 1, cost) for task, cost in enumerate(costs)]
    return pd.DataFrame(
        rows, columns=["experiment", "scenarios", "method", "seeds_in_pack", "device", "task", "milliseconds"]
    )


@pytest.fixture
def tables():
    hnet, direct = "HNET+ENT", "None (fine-tune)"
    pair = pd.concat(
        [
            iteration_rows("SplitMNIST", hnet, [3, 5, 5, 5, 7]),
            iteration_rows("SplitMNIST", direct, [2, 2, 2, 3, 1]),
            iteration_rows("PermutedMNIST-10", hnet, [10, 16, *[17] * 7, 20]),
            iteration_rows("PermutedMNIST-10", direct, [8] * 10),
        ]
    )
    packs = pd.concat(
        [iteration_rows("PermutedMNIST-10", hnet, [cost], pack) for pack, cost in ((1, 15.0), (20, 300.0))]
    )
    work = [measure_limit.Part("a", 1000, 10)]
    limit = pd.concat(
        pd.DataFrame(measure_limit.limit_rows(title, work, 0.004, 1e9, 1e9))
        for title in ("SplitMNIST", "PermutedMNIST-10")
    )
    peers = pd.DataFrame(columns=measure_peers.COLUMNS)
    return {
        "regulariser": REGULARISER,
        "pair": pair,
        "methods": pair,
        "packs": packs,
        "limit": limit,
        "peers": peers,
    }


def test_key_numbers_are_the_ratios_they_are_named_for(tables):
    keys = summarise_benchmark.key_numbers(**tables)
    assert keys == {
        "regulariser_speedup_t99": 12.5,
        "regulariser_growth": 1.2,
        "hnet_over_plain_split": 2.5,
        "hnet_over_plain_permuted": 2.062,
        "task10_over_task2": 1.25,
        "fraction_of_limit_split": 0.25,
        "fraction_of_limit_permuted": 0.25,
        "hypercl_over_ours_split": None,
        "hypercl_over_ours_permuted": None,
        "pack20_over_pack1": None,  # of a CPU nothing is claimed
    }


def test_packs_on_a_gpu_and_the_papers_code_are_summed_up_where_they_were_measured(tables):
    tables["packs"] = tables["packs"].assign(device="some GPU")
    row = ["chrhenning/hypercl", "SplitMNIST", "CL1", "HNET+ENT", 35.0, 5.0, 7.0]
    tables["peers"] = pd.DataFrame([row], columns=measure_peers.COLUMNS)
    keys = summarise_benchmark.key_numbers(**tables)
    assert keys["pack20_over_pack1"] == 20
    assert keys["hypercl_over_ours_split"] == 7
    assert keys["hypercl_over_ours_permuted"] is None


def test_measurements_become_a_summary_a_page_and_a_figure(tables, tmp_path, monkeypatch):
    files = {}
    for name, table in tables.items():
        files[name] = tmp_path / f"{name}.csv"
        # Summed up later, and elsewhere, than measured.
        day = "2026-01-03" if name == "limit" else "2026-01-02"
        with_machine(table).assign(processor="a Xeon", cores=64, date=day).to_csv(files[name], index=False)
    summary, page = (tmp_path / name for name in ("summary.json", "summary.md"))
    arguments = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    arguments += ["--threads", "2", "--summary", str(summary), "--markdown", str(page)]
    monkeypatch.setattr(sys, "argv", ["summarise_benchmark", *arguments])
    summarise_benchmark.main()
    written = json.loads(summary.read_text())
    assert written["regulariser_speedup_t99"] == 12.5
    assert written["machine"] == {
        "processor": "a Xeon",
        "cores": 64,
        "threads": 2,
        "device": "cpu",
        "date": "2026-01-02 to 2026-01-03",
    }
    (line,) = [line for line in page.read_text().splitlines() if "regulariser_speedup_t99" in line]
    assert line.endswith("12.50 |")
    assert "not measured" in page.read_text()
    with style.figure_style():
        figure = plot_benchmark.draw(REGULARISER, written["machine"])
    time, memory = figure.axes
    drawn = {tuple(line.get_ydata()) for line in time.get_lines()}
    assert drawn == {(3.0, 3.6), (90.0, 1800.0), (60.0, 400.0), (300.0, 5000.0)}
    assert memory.get_ylabel() == "Memory (MiB)"
    assert "2 threads" in figure._supxlabel.get_text().replace("\n", " ")


def test_calls_take_turns_and_the_first_do_not_count():
    called = []
    spent = timing.in_turn(
        {name: lambda name=name: called.append(name) for name in "ab"}, CPU, repeats=4, turn=3, warm_up=2
    )
    assert "".join(called) == "aaabbbaaabbb"
    assert {name: len(values) for name, values in spent.items()} == {"a": 4, "b": 4}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says what memory a process takes at most")
def test_peak_memory_is_that_of_the_largest_moment():
    def call():
        kept = torch.ones(2**22)  # 16 MiB
        torch.ones(2**23)  # 32 MiB more, given back at once
        return kept

    assert 46 <= timing.peak_memory(call, CPU) / 2**20 < 56  # in pages, and a little is taken from what was there


def test_rates_are_those_of_a_machine():
    assert 1e8 < timing.matrix_rate(CPU) < 1e15
    assert 1e8 < timing.bandwidth(CPU) < 1e14


def test_a_limit_is_the_slower_of_arithmetic_and_memory_part_by_part():
    work = [measure_limit.Part("product", 4000, 100), measure_limit.Part("pass", 10, 500)]
    rows = measure_limit.limit_rows("Tiny", work, 10.0, 1e6, 1e6)
    by_part = {row["part"]: row for row in rows}
    assert by_part["product"]["limit_milliseconds"] == 4  # 4000 operations, 400 bytes
    assert by_part["pass"]["limit_milliseconds"] == 2  # 10 operations, 2000 bytes
    assert by_part["iteration"]["limit_milliseconds"] == 6
    assert by_part["iteration"]["fraction_of_limit"] == 0.6


@pytest.mark.parametrize("sequence", [{}, {"sequence": PERMUTED}])
def test_operations_are_those_that_an_iteration_runs(write_experiment, sequence):
    # Layers wide beside the hidden ones of the hypernetwork, whose operations are left out of the count.
    changes = {
        "target.hidden": [150, 140],
        "methods.hnet_ent.hypernetwork.chunk_size": 3000,
        "methods.hnet_ent.hypernetwork.task_embedding": 2,
        "methods.hnet_ent.hypernetwork.chunk_embedding": 2,
        "optimisation.batch_size": 64,
        **sequence,
    }
    experiment = load_experiment(write_experiment(changes))
    trainings = measure_iteration_cost.build(experiment, ["hnet_ent"], ("cl1",), make_dataset(), CPU)
    (method,) = trainings.methods["hnet_ent"]
    last = trainings.sequence.num_tasks - 1
    for task in range(last + 1):
        method.begin_task(task)
    stage = trainings.sequence.training_stage(last, seen=False, iterations=1, batch_size=64)
    with FlopCounterMode(display=False) as counter:
        method.step(stage[0], 0)
    counted = sum(part.operations for part in measure_limit.parts(method, 64))
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_iterations_are_measured_for_every_method_task_and_pack(write_experiment, tmp_path, monkeypatch):
    output = tmp_path / "cost.csv"
    monkeypatch.setattr(data, "random_images", make_dataset)
    arguments = ["--experiment", str(write_experiment()), "--scenario", "all", "--packs", "1", "2"]
    arguments += ["--iterations", "3", "--fisher", "--threads", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["measure_iteration_cost", *arguments])
    measure_iteration_cost.main()
    measured = pd.read_csv(output, keep_default_na=False)
    fisher = measured["method"].str.startswith("Fisher")
    assert set(measured[fisher]["method"]) == {"Fisher information", "Fisher information, sample by sample"}
    counts = measured[~fisher].groupby(["method", "seeds_in_pack"]).size()
    assert len(counts) == 2 * len(SETTINGS["methods"])
    assert (counts == 3).all()  # tasks
    assert (measured["milliseconds"] > 0).all()


def test_a_method_without_a_training_for_the_scenario_is_named(write_experiment):
    experiment = load_experiment(write_experiment({"methods.si.scenarios": ["cl2"]}))
    with pytest.raises(ConfigurationError, match=r"--methods si: no training for cl1\. Allowed: .*hnet_ent"):
        measure_iteration_cost.build(experiment, ["si"], ("cl1",), make_dataset(), CPU)


def test_the_regulariser_is_measured_in_both_forms(write_experiment, tmp_path, monkeypatch):
    output = tmp_path / "regulariser.csv"
    arguments = ["--experiments", str(write_experiment()), "--tasks", "1", "4", "--repeats", "2"]
    monkeypatch.setattr(sys, "argv", ["measure_regulariser", *arguments, "--threads", "1", "--output", str(output)])
    measure_regulariser.main()
    measured = pd.read_csv(output)
    assert set(zip(measured["form"], measured["tasks"], strict=True)) == {
        (form, tasks) for form in ("exact", "explicit") for tasks in (1, 4)
    }
    target = measure_regulariser.target_network(load_experiment(write_experiment()))
    # 28 x 28 pixels, hidden layers of 7 and 6, three heads of two units.
    assert target.num_weights == sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise((784, 7, 6, 6)))


def test_only_the_explicit_form_stores_the_networks_of_earlier_tasks(write_experiment):
    experiment = load_experiment(write_experiment())
    network = 4 * measure_regulariser.target_network(experiment).num_weights  # bytes
    stored = {
        form: [measure_regulariser.Case(experiment, tasks, CPU).memory(form)[1] for tasks in (1, 4)]
        for form in ("exact", "explicit")
    }
    assert stored["explicit"][1] - stored["explicit"][0] >= 3 * network
    assert stored["exact"][1] - stored["exact"][0] < network


def test_the_explicit_form_is_left_out_where_memory_does_not_suffice(write_experiment, monkeypatch):
    case = measure_regulariser.Case(load_experiment(write_experiment()), 4, CPU)
    monkeypatch.setattr(timing, "free_memory", lambda where: 1000)
    assert case.milliseconds("explicit", 1) is None
    assert case.memory("explicit") == (None, 0)
    assert case.milliseconds("exact", 1) > 0


def test_other_repositories_find_mnist_as_it_was_distributed():
    images = data.random_images(train=30, test=20)
    with measure_peers.mnist_files(images) as folder:
        raw = folder / "MNIST" / "MNIST" / "raw"
        read = torchvision.datasets.mnist
        found = read.read_image_file(raw / "train-images-idx3-ubyte")
        assert torch.equal(found, torch.from_numpy(images.train_images))
        assert torch.equal(read.read_label_file(raw / "t10k-labels-idx1-ubyte"), torch.from_numpy(images.test_labels))
        assert (folder / "MNIST" / "t10k-images-idx3-ubyte.gz").is_file()


def test_the_files_are_the_original_ones(mnist_dir, tmp_path):
    original = data.load_mnist(mnist_dir, download=False)
    with measure_peers.mnist_files(original) as folder:
        again = data.load_mnist(folder / "MNIST", download=False)  # checks every file's MD5
    assert again.sha256 == original.sha256


def test_the_old_order_of_arguments_is_understood_and_todays_too():
    addcmul = old_order(torch.Tensor.addcmul, "value")
    a, b, c = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert torch.equal(addcmul(a, 2, b, c), a + 2 * b * c)
    assert torch.equal(addcmul(a, b, c, value=3), a + 3 * b * c)
    assert torch.equal(old_order(torch.Tensor.add, "alpha")(a, 0.5, b), a + 0.5 * b)


def test_without_other_repositories_nothing_is_measured(tmp_path, monkeypatch):
    output = tmp_path / "peers.csv"
    monkeypatch.setattr(sys, "argv", ["measure_peers", "--output", str(output)])
    measure_peers.main()
    assert list(pd.read_csv(output).columns) == [*measure_peers.COLUMNS, "processor", "cores", "date"]


def test_a_repository_that_fails_is_reported_with_its_last_words():
    program = "print('working'); raise SystemExit('no such data')"
    with pytest.raises(SystemExit, match=r"(?s)did not end as expected.*working.*no such data"):
        measure_peers.output_of([sys.executable, "-c", program], None, 1, "seconds: (.*)")


def test_iterations_are_compared_by_the_column_asked_for(tmp_path, monkeypatch):
    rows = [
        ("A", "CL1", "SI", seeds, "some GPU", steps, task, seeds * task * factor)
        for steps, factor in (("recorded", 1.0), ("host", 10.0))
        for seeds in (1, 20)
        for task in (2, 4)
    ]
    columns = ["experiment", "scenarios", "method", "seeds_in_pack", "device", "steps", "task", "milliseconds"]
    pd.DataFrame(rows, columns=columns).query("steps == 'recorded' or seeds_in_pack == 1").to_csv(tmp_path / "m.csv")
    expected = {
        "seeds_in_pack 20 1": [["host", "30.00", "–", "–"], ["recorded", "3.00", "60.00", "20.0"]],
        "task 4 2": [["host", "20.00", "40.00", "2.0"], ["recorded", "21.00", "42.00", "2.0"]],
        "task 5 2": [["host", "20.00", "40.00", "–"], ["recorded", "21.00", "42.00", "–"]],
    }
    for arguments, table in expected.items():
        by, *ratio = arguments.split()
        command = ["x", "--measured", str(tmp_path / "m.csv"), "--by", by, "--ratio", *ratio]
        monkeypatch.setattr(
            sys, "argv", [*command, "--csv", str(tmp_path / "t.csv"), "--markdown", str(tmp_path / "t.md")]
        )
        compare_iterations.main()
        lines = (tmp_path / "t.md").read_text().splitlines()[2:]
        assert [line.strip("| ").split(" | ")[2:] for line in lines] == table
