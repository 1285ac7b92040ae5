"""Accuracy by task over a sequence, and against a number that variants differ in: tables and figures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import compare_tasks
import compare_values
from hnetcl import figure_style as style
from hnetcl import records
from test_figures import run_script  # noqa: F401 - a fixture
from test_records import make_record


@pytest.fixture
def accuracy():
    everything = [
        make_record("Long", label, seed, ("cl1",), tasks=6) for label in ("HNET+ENT", "SI") for seed in (1, 2, 3)
    ]
    everything.append(make_record("Long, per seed", "SI", 1, ("cl1",), tasks=4))
    return everything


def test_the_table_by_task_holds_the_last_row_the_diagonal_and_the_means_so_far_of_every_matrix(accuracy):
    table = compare_tasks.by_task(records.accuracy_table(accuracy))
    assert len(table) == 6 * 6 + 4
    for record in accuracy:
        spec = record["spec"]
        own = table[
            (table["experiment"] == spec["title"])
            & (table["method"] == spec["label"])
            & (table["seed"] == spec["seed"])
        ].sort_values("task")
        matrix = np.array(record["scenarios"]["cl1"]["accuracy"])
        assert np.allclose(own["final"], matrix[-1], atol=1e-4)
        assert np.allclose(own["during"], matrix.diagonal(), atol=1e-4)
        before = [record["scenarios"]["cl1"]["initial"], *matrix[:-1]]
        assert np.allclose(own["before"], np.diagonal(before), atol=1e-4)
        assert np.allclose(own["so_far"], [row[: t + 1].mean() for t, row in enumerate(matrix)], atol=1e-4)
        assert set(own["tasks"]) == {len(matrix)}


def test_lines_over_the_tasks_stand_at_the_means_and_bands_at_the_deviations(accuracy):
    table = compare_tasks.by_task(records.accuracy_table(accuracy))
    with style.figure_style():
        figure = compare_tasks.draw(table, ["Long"])
    final, during, so_far = figure.axes
    titles = ["after the last task", "right after the task", "mean over the tasks so far"]
    assert [ax.get_title() for ax in figure.axes] == titles
    for ax, measure in ((final, "final"), (during, "during"), (so_far, "so_far")):
        for method, line in zip(("HNET+ENT", "SI"), ax.lines, strict=True):
            seeds = table[(table["experiment"] == "Long") & (table["method"] == method)].groupby("task")[measure]
            assert np.allclose(line.get_ydata(), seeds.mean())
            assert line.get_label() == method
    assert figure.subfigs[0].get_suptitle() == "Long, CL1 (n=3)"
    (lower, *_) = [path.vertices for path in final.collections[0].get_paths()]
    seeds = table[(table["experiment"] == "Long") & (table["method"] == "HNET+ENT")].groupby("task")["final"]
    assert lower[:, 1].min() == pytest.approx((seeds.mean() - seeds.std()).min())


def test_every_method_of_every_panel_is_in_the_legend_and_a_row_says_how_many_seeds_it_has():
    few = [make_record("Short", "HNET+ENT", 1, ("cl1",), tasks=2)]
    many = [make_record("Long", label, seed, ("cl1",), tasks=4) for label in ("HNET+ENT", "SI") for seed in (1, 2)]
    more = [make_record("Long", "DGR+distill", 1, ("cl1",), tasks=4)]
    table = compare_tasks.by_task(records.accuracy_table([*few, *many, *more]))
    with style.figure_style():
        figure = compare_tasks.draw(table, ["Short", "Long"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["HNET+ENT", "SI", "DGR+distill"]
    drawn = {line.get_label(): line.get_color() for ax in figure.axes for line in ax.lines}
    assert {t.get_text(): h.get_color() for t, h in zip(legend.texts, legend.get_lines(), strict=True)} == drawn
    short, long = (row.get_suptitle() for row in figure.subfigs)
    assert short == "Short, CL1 (n=1)"
    assert long == "Long, CL1 (n=1: DGR+distill; n=2: HNET+ENT, SI)"
    assert "4 tasks (Long), 2 tasks (Short)" in " ".join(figure.get_supxlabel().split())


def test_a_long_title_stays_inside_the_figure():
    name = "Permuted MMMM, with a target network so small that it takes words"
    runs = [make_record(name, label, 1, ("cl1",), tasks=2) for label in ("HNET+ENT", "DGR+distill")]
    runs += [make_record(name, label, seed, ("cl1",), tasks=2) for label in ("online EWC", "SI") for seed in (1, 2)]
    with style.figure_style():
        figure = compare_tasks.draw(compare_tasks.by_task(records.accuracy_table(runs)), [name])
        FigureCanvasAgg(figure).draw()
    (row,) = figure.subfigs
    title = row._suptitle.get_window_extent()
    assert row.get_suptitle().count("\n") == 1
    assert title.x0 >= 0 and title.x1 <= figure.bbox.x1


def test_the_scripts_write_table_and_figure_by_task_with_runs_on_redrawn_tasks_in_place(accuracy, tmp_path, run_script):  # noqa: F811
    records.write_accuracy(records.accuracy_table(accuracy), tmp_path / "accuracy.csv")
    names = {kind: tmp_path / f"long.{kind}" for kind in ("csv", "md", "png", "pdf")}
    done = run_script(
        "compare_tasks.py",
        *("--accuracy", tmp_path / "accuracy.csv", "--experiments", "Long", "--csv", names["csv"]),
        *("--markdown", names["md"], "--png", names["png"], "--pdf", names["pdf"]),
        *("--published-as", "Long, per seed=Long"),
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(names["csv"])
    measures = ["final", "during", "before"]
    assert list(table.columns) == ["experiment", "method", "scenario", "tasks", "task", "seed", *measures, "so_far"]
    assert table.groupby("method")["tasks"].first().to_dict() == {"HNET+ENT": 6, "SI": 4}
    lines = names["md"].read_text().splitlines()
    hnet = table[table["method"] == "HNET+ENT"].groupby("seed")[measures].mean()
    expected = [f"{hnet[measure].mean():.2f} ± {hnet[measure].std():.2f}" for measure in measures]
    assert lines[2] == f"| Long, CL1 | HNET+ENT | 3 | {' | '.join(expected)} |"
    assert len(lines) == 4 and all(names[kind].stat().st_size > 1000 for kind in ("png", "pdf"))


def test_variants_are_followed_as_methods_are():
    everything = [
        make_record(f"Long, {variant}", seed=seed, scenarios=("cl1",), tasks=3)
        for variant in ("strong", "weak, and slow")
        for seed in (1, 2)
    ]
    accuracy = records.accuracy_table([*everything, make_record("Other, strong", seed=1)])
    table = compare_tasks.by_task(compare_tasks.variants_as_methods(accuracy, ["Long"], ["strong", "weak, and slow"]))
    assert set(table["experiment"]) == {"Long"} and len(table) == 2 * 2 * 3
    matrix = np.array(everything[2]["scenarios"]["cl1"]["accuracy"])
    own = table[(table["method"] == "weak, and slow") & (table["seed"] == 1)].sort_values("task")
    assert np.allclose(own["final"], matrix[-1], atol=1e-4)
    with style.figure_style():
        lines = compare_tasks.draw(table, ["Long"]).axes[0].lines
    assert len({line.get_color() for line in lines}) == 2


def test_tasks_that_were_not_measured_at_the_end_have_no_final_accuracy():
    record = make_record("Long", seed=1, scenarios=("cl1",), tasks=3)
    record["scenarios"]["cl1"]["accuracy"][2][:2] = [None, None]
    table = compare_tasks.by_task(records.accuracy_table([record])).sort_values("task")
    assert table["final"].isna().tolist() == [True, True, False] and table["during"].notna().all()
    assert table["so_far"].isna().tolist() == [False, False, True]
    assert compare_tasks.markdown(table).splitlines()[2].split(" | ")[3] == "–"


@pytest.fixture
def runs():
    everything = [
        make_record(f"Study, {name}", seed=seed, scenarios=("cl1",), final=final + seed)
        for name, final in (("weak", 80.0), ("strong", 60.0))
        for seed in (1, 3)
    ]
    return records.runs_table([*everything, make_record("Study", seed=1), make_record("Other, weak", seed=1)])


def test_the_table_by_value_has_a_row_a_run_of_the_variants(runs):
    values = {"Study, weak": 0.1, "Study, strong": 10.0}
    table = compare_values.by_value(runs, "Study", values, "beta")
    assert table["beta"].tolist() == [0.1, 0.1, 10.0, 10.0]
    assert table["final"].tolist() == [81.0, 83.0, 61.0, 63.0]
    compression = {"Study, weak": 2.0, "Study, strong": 0.5}
    sized = runs.assign(compression=runs["experiment"].map(compression).fillna(9.0))
    ratios = compare_values.by_value(sized, "Study", {}, "ratio")
    assert ratios["ratio"].tolist() == [0.5, 0.5, 2.0, 2.0]
    assert ratios["final"].tolist() == [61.0, 63.0, 81.0, 83.0]
    with pytest.raises(ValueError, match="no run of a variant of 'Nothing'"):
        compare_values.by_value(runs, "Nothing", {}, "ratio")


def test_numbers_of_the_table_by_value_have_four_digits_and_no_exponent(runs):
    table = compare_values.by_value(runs, "Study", {"Study, weak": 10000.0, "Study, strong": 0.95476}, "strength")
    rows = compare_values.markdown(table, "strength").splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| 0.9548", "| 10000"]


def test_points_by_value_stand_at_the_means_on_a_logarithmic_axis(runs, tmp_path, run_script):  # noqa: F811
    table = compare_values.by_value(runs, "Study", {"Study, weak": 0.1, "Study, strong": 10.0}, "beta")
    with style.figure_style():
        (ax,) = compare_values.draw(table, "Study", "beta").axes
    during, final = [container.lines[0] for container in ax.containers]
    assert ax.get_xscale() == "log" and final.get_xdata().tolist() == [0.1, 10.0]
    assert final.get_ydata().tolist() == [82.0, 62.0]
    assert during.get_ydata().tolist() == table.groupby("beta")["during"].mean().tolist()

    records.write_table(runs, tmp_path / "runs.csv")
    names = {kind: tmp_path / f"study.{kind}" for kind in ("csv", "md", "png", "pdf")}
    done = run_script(
        "compare_values.py",
        *("--runs", tmp_path / "runs.csv", "--title", "Study", "--name", "beta"),
        *("--values", "Study, weak=0.1", "Study, strong=10.0", "--csv", names["csv"], "--markdown", names["md"]),
        *("--png", names["png"], "--pdf", names["pdf"]),
    )
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(names["csv"])["final"].tolist() == [81.0, 83.0, 61.0, 63.0]
    assert names["md"].read_text().splitlines()[2].startswith("| 0.1 | HNET+ENT, CL1 | 2 | ")
    assert all(names[kind].stat().st_size > 1000 for kind in ("png", "pdf"))
