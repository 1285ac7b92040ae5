"""Figures show the numbers of the tables, come out the same twice, and need no torch."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import plot_accuracy_matrix
import plot_final_accuracy
from hnetcl import figure_style as style
from hnetcl import records
from hnetcl.verdicts import read_reference
from test_records import make_record

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "workflow" / "scripts"
REFERENCE = ROOT / "config" / "reference.csv"
METHODS = ("HNET+ENT", "None (fine-tune)", "Offline (joint)")


def make_records(title="SplitMNIST", seeds=3, scenarios=("cl1", "cl3"), tasks=4):
    return [make_record(title, label, seed, scenarios, tasks=tasks) for label in METHODS for seed in range(seeds)]


@pytest.fixture
def run_script(tmp_path):
    """Run a script as a user does, by an interpreter that cannot import torch."""
    (tmp_path / "no_torch").mkdir()
    (tmp_path / "no_torch" / "torch.py").write_text("raise ImportError('no torch here')\n")

    def run(name, *arguments):
        return subprocess.run(
            [sys.executable, SCRIPTS / name, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(tmp_path / "no_torch")},
            cwd=tmp_path,
            text=True,
            capture_output=True,
        )

    return run


CASES = {
    "several seeds and experiments": [*make_records(), *make_records("PermutedMNIST-10", tasks=10)],
    "one seed": make_records(seeds=1),
    "one scenario missing in one experiment": [
        *make_records(scenarios=("cl1", "cl2")),
        *make_records("PermutedMNIST-10", scenarios=("cl1",)),
    ],
    "no published values": make_records("Split digits"),
    "one experiment not run": make_records(),
    "a single task": make_records(tasks=1),
    "every accuracy 100": [make_record(label=label, final=100.0, tasks=1) for label in METHODS],
}


def draw_both(everything, folder):
    """Write the two figures of ``everything`` and return the content of the four files by name."""
    titles = sorted({record["spec"]["title"] for record in everything} | {"SplitMNIST"})
    with style.figure_style():
        figures = {
            "final": plot_final_accuracy.draw(records.runs_table(everything), read_reference(REFERENCE), titles),
            "matrix": plot_accuracy_matrix.draw(records.accuracy_table(everything), titles, "CL1"),
        }
        for name, figure in figures.items():
            style.save_figure(figure, folder / f"{name}.png", folder / f"{name}.pdf")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("everything", CASES.values(), ids=CASES.keys())
def test_figures_are_written(tmp_path, everything):
    contents = draw_both(everything, tmp_path)
    assert contents.keys() == {"final.png", "final.pdf", "matrix.png", "matrix.pdf"}
    for name, content in contents.items():
        assert content.startswith(b"\x89PNG" if name.endswith("png") else b"%PDF")
        assert len(content) > 3000


def test_the_same_tables_give_the_same_bytes(tmp_path):
    first, second = (draw_both(CASES["one seed"], tmp_path / attempt) for attempt in ("first", "second"))
    assert first == second
    for content in first.values():
        assert not any(word in content for word in (b"CreationDate", b"tIME", b"matplotlib.org"))


def test_no_figure_is_drawn_of_nothing():
    runs, accuracy = records.runs_table(make_records()), records.accuracy_table(make_records())
    with pytest.raises(ValueError, match=r"SplitCIFAR.*Allowed.*SplitMNIST"):
        plot_final_accuracy.draw(runs, read_reference(REFERENCE), ["SplitCIFAR"])
    with pytest.raises(ValueError, match=r"no run to draw"):
        plot_accuracy_matrix.draw(accuracy, ["SplitMNIST"], "CL2")


@pytest.mark.parametrize("width", [0.6 * style.TEXT_WIDTH, style.TEXT_WIDTH])
@pytest.mark.parametrize("word", ["MMMM", "till", "one sentence of the usual letters, 20 of them"])
def test_a_note_stays_inside_the_figure_and_uses_its_width(width, word):
    text = " ".join([word] * (600 // len(word)))
    with style.figure_style():
        figure = Figure(figsize=(width, 9), layout="constrained")
        style.add_note(figure, text)
        (note,) = figure.texts
        figure.draw_without_rendering()
        box = note.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert box.y0 >= 0 and box.y1 <= figure.bbox.height
    assert box.width > 0.8 * figure.bbox.width
    assert " ".join(note.get_text().split()) == text


def test_every_seed_is_a_dot_and_the_mean_stands_at_the_mean():
    runs, reference = records.runs_table(make_records(seeds=4)), read_reference(REFERENCE)
    with style.figure_style():
        figure = plot_final_accuracy.draw(runs, reference, ["SplitMNIST"])
    assert [ax.get_title() for ax in figure.axes] == ["SplitMNIST, CL1", "SplitMNIST, CL3"]
    for ax in figure.axes:
        scenario = ax.get_title()[-3:]
        drawn = {"o": [], "|": [], "D": []}
        for line in ax.lines:
            if line.get_marker() in drawn:
                drawn[line.get_marker()].append(np.asarray(line.get_xdata(), dtype=float))
        ours = [
            runs.loc[(runs["method"] == method) & (runs["scenario"] == scenario), "mean_final"] for method in METHODS
        ]
        published = reference[
            (reference["experiment"] == "SplitMNIST")
            & (reference["scenario"] == scenario)
            & reference["method"].isin(METHODS)
        ]
        np.testing.assert_array_equal(drawn["o"], ours)
        np.testing.assert_allclose(np.ravel(drawn["|"]), [np.mean(values) for values in ours])
        assert sorted(np.ravel(drawn["D"])) == sorted(published["mean"])
        low, high = ax.get_xlim()
        everything = np.concatenate([*ours, published["mean"]])
        assert low < everything.min() <= everything.max() < high


def test_a_heat_map_shows_the_mean_over_seeds_and_leaves_the_rest_grey():
    everything = make_records(seeds=3)
    with style.figure_style():
        figure = plot_accuracy_matrix.draw(records.accuracy_table(everything), ["SplitMNIST"], "CL3")
    maps = {ax.get_title(): ax for ax in figure.axes if ax.get_title()}
    assert list(maps) == [f"{method}\nn=3" for method in METHODS]
    for method, ax in zip(METHODS, maps.values(), strict=True):
        matrices = [
            np.array(record["scenarios"]["cl3"]["accuracy"], dtype=float)
            for record in everything
            if record["spec"]["label"] == method
        ]
        (mesh,) = (artist for artist in ax.collections if isinstance(artist, QuadMesh))
        shown = np.ma.filled(mesh.get_array().astype(float), np.nan).reshape(4, 4)
        np.testing.assert_allclose(shown, np.mean(matrices, axis=0), atol=1e-3)


@given(st.floats(0, 100), st.floats(0, 100))
def test_the_accuracy_scale_keeps_the_order_and_can_be_undone(first, second):
    forward, inverse = style.accuracy_scale()
    assert inverse(forward(first)) == pytest.approx(first, abs=1e-9)
    assert (first < second) <= (forward(first) <= forward(second))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=5))
def test_an_accuracy_axis_holds_its_values_and_labels_that_do_not_touch(values):
    figure = style.Figure()
    ax = figure.subplots()
    style.set_accuracy_axis(ax, np.array(values))
    forward, _ = style.accuracy_scale()
    low, high = ax.get_xlim()
    ticks = ax.get_xticks()
    assert low < min(values) <= max(values) < high
    assert len(ticks) >= 2
    assert all(low <= tick <= high for tick in ticks)
    assert [float(label.get_text()) for label in ax.get_xticklabels()] == pytest.approx(ticks, rel=1e-5)
    gaps = [forward(right) - forward(left) for left, right in pairwise(ticks)]
    assert all(gap > 0.1 * (forward(high) - forward(low)) for gap in gaps)


def test_every_method_of_the_paper_has_a_colour_of_its_own():
    known = (*records.HNET_METHODS, *records.BASELINES, *records.BOUNDS)
    colours = [to_rgb(style.method_colour(method)) for method in known]
    assert len(set(colours)) == len(known)
    assert style.method_colour("something new") == style.method_colour("something else")
    assert to_rgb(style.method_colour("something new")) not in colours


def test_the_scripts_lead_from_records_to_tables_and_figures_without_torch(tmp_path, run_script):
    everything = [*make_records(), *make_records("Split digits")]
    files = [tmp_path / f"{number}.json" for number in range(len(everything))]
    for path, record in zip(files, everything, strict=True):
        records.write_record(path, record)
    titles, reference = ["SplitMNIST", "Split digits"], ["--reference", REFERENCE]
    runs, accuracy = ["--runs", "runs.csv"], ["--accuracy", "accuracy.csv"]
    experiments = ["--experiments", *titles]
    commands = {
        "collect_runs.py": ["--records", *files, *runs, *accuracy],
        "make_table.py": [
            *(*runs, *reference, *experiments, "--margin", 0.5, "--title", "Table 1"),
            *("--summary", "summary.csv", "--verdicts", "verdicts.csv"),
            *("--markdown", "table.md", "--latex", "table.tex"),
        ],
        "plot_final_accuracy.py": [*runs, *reference, *experiments, "--png", "f.png", "--pdf", "f.pdf"],
        "plot_accuracy_matrix.py": [
            *(*accuracy, *experiments, "--scenario", "CL1", "--png", "m.png", "--pdf", "m.pdf"),
        ],
        "publish_results.py": [*runs, *accuracy, "--cached", "cached", *reference, "--margin", 0.5],
    }
    outputs = ["summary.csv", "table.md", "table.tex", "f.png", "f.pdf", "m.png", "m.pdf", "accuracy.csv"]
    for name, arguments in commands.items():
        result = run_script(name, *arguments)
        assert result.returncode == 0, result.stderr
    for output in outputs:
        assert (tmp_path / output).stat().st_size > 0, output

    pd.testing.assert_frame_equal(records.read_runs(tmp_path / "runs.csv"), records.runs_table(everything))
    verdicts = pd.read_csv(tmp_path / "verdicts.csv")
    assert set(verdicts["experiment"]) == {"SplitMNIST"}
    assert len(pd.read_csv(tmp_path / "cached" / "verdicts.csv")) == len(read_reference(REFERENCE))


def test_publishing_says_what_it_added_replaced_and_kept(tmp_path, run_script):
    def publish(seeds, final):
        everything = [make_record(seed=seed, final=final, scenarios=("cl1",)) for seed in seeds]
        records.write_table(records.runs_table(everything), tmp_path / "runs.csv")
        records.write_accuracy(records.accuracy_table(everything), tmp_path / "accuracy.csv")
        result = run_script(
            *("publish_results.py", "--runs", "runs.csv", "--accuracy", "accuracy.csv"),
            *("--cached", "cached", "--reference", REFERENCE),
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    cell = "SplitMNIST HNET+ENT CL1: seeds"
    assert publish([0, 1, 2], 90.0).startswith(f"added: 3 runs\n  {cell} 0, 1, 2\nreplaced: 0 runs\nkept: 0 runs")
    assert publish([2, 3], 80.0).startswith(
        f"added: 1 runs\n  {cell} 3\nreplaced: 1 runs\n  {cell} 2\nkept: 2 runs\n  {cell} 0, 1\n"
    )
    merged = records.read_runs(tmp_path / "cached" / "runs.csv")
    assert dict(zip(merged["seed"], merged["mean_final"], strict=True)) == {0: 90, 1: 90, 2: 80, 3: 80}
    verdicts = pd.read_csv(tmp_path / "cached" / "verdicts.csv").set_index(["experiment", "method", "scenario"])
    row = verdicts.loc[("SplitMNIST", "HNET+ENT", "CL1")]
    assert (row["ours_mean"], row["ours_n"], row["verdict"]) == (85, 4, "below")


def test_publishing_refuses_tables_that_do_not_belong_together(tmp_path, run_script):
    records.write_table(records.runs_table([make_record(seed=0)]), tmp_path / "runs.csv")
    records.write_accuracy(records.accuracy_table([make_record(seed=1)]), tmp_path / "accuracy.csv")
    result = run_script(
        *("publish_results.py", "--runs", "runs.csv", "--accuracy", "accuracy.csv"),
        *("--cached", "cached", "--reference", REFERENCE),
    )
    assert result.returncode == 2
    assert "the same runs" in result.stderr
    assert not (tmp_path / "cached").exists()
