"""Every published cell gets a verdict by the stated rule, and summaries agree with textbook statistics."""

import math
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hnetcl import records
from hnetcl.verdicts import as_published, compare, read_reference, summarise
from test_records import make_record

REFERENCE = Path(__file__).parents[1] / "config" / "reference.csv"
COLUMNS = [
    *("artefact", "experiment", "scenario", "method", "metric", "paper_mean", "paper_sem", "paper_n"),
    *("ours_mean", "ours_sem", "ours_n", "difference", "verdict", "tasks"),
]


def make_runs(finals, label="HNET+ENT", scenario="cl1", title="SplitMNIST"):
    """Return the table of runs whose final accuracies in percent are ``finals``, one seed each."""
    return records.runs_table(
        make_record(title, label, seed, (scenario,), final=final) for seed, final in enumerate(finals)
    )


def make_reference(mean, sem, method="HNET+ENT", scenario="CL1", artefact="Table 1"):
    return pd.DataFrame(
        {
            "artefact": [artefact],
            "experiment": ["SplitMNIST"],
            "scenario": [scenario],
            "method": [method],
            "metric": ["mean_test_acc_final_%"],
            "mean": [mean],
            "sem": [sem],
            "n": pd.array([20], dtype="Int64"),
            "source": ["a paper"],
            "confidence": ["checked"],
        }
    )


def test_the_reference_is_table_1_and_the_two_bounds():
    reference = read_reference(REFERENCE)
    methods = reference.groupby("artefact")["method"].agg(lambda names: sorted(set(names)))
    assert methods.to_dict() == {
        "Table 1": ["DGR+distill", "HNET+ENT", "HNET+R", "HNET+TIR", "SI", "online EWC"],
        "van de Ven baselines (not in paper table)": ["None (fine-tune)", "Offline (joint)"],
    }
    assert set(reference["metric"]) == {"mean_test_acc_final_%"}
    assert len(reference) == 2 * 3 * (6 + 2)  # experiments x scenarios x methods


def test_runs_on_tasks_as_published_take_the_place_of_others_cell_by_cell():
    redrawn = "SplitMNIST, pairs per seed"
    runs = pd.concat(
        [
            make_runs([99.0]),
            make_runs([90.0, 91.0], "SI"),
            make_runs([60.0], "SI", "cl2"),
            make_runs([80.0, 81.0, 82.0], "SI", title=redrawn),
            make_runs([55.0], "SI", "cl3", title=redrawn),
            make_runs([10.0], "SI", title="Digits"),
        ]
    )
    reference = pd.concat(
        [make_reference(99.0, 0.1), *(make_reference(81.0, 0.1, "SI", scenario) for scenario in ("CL1", "CL2", "CL3"))]
    )
    verdicts = compare(as_published(runs, {redrawn: "SplitMNIST"}), reference, 0.5)
    assert list(verdicts["ours_mean"]) == [99.0, 81.0, 60.0, 55.0]
    assert list(verdicts["ours_n"]) == [1, 3, 1, 1]
    assert list(verdicts["tasks"]) == ["as published", "as published", "fixed", "as published"]
    assert list(compare(runs, reference, 0.5)["tasks"]) == ["as published", "fixed", "fixed", ""]
    assert as_published(runs, {}).drop(columns="redrawn").equals(runs)
    kept = as_published(runs, {redrawn: "SplitMNIST"})
    assert list(kept.loc[kept["experiment"] == "Digits", "mean_final"]) == [10.0]


@pytest.mark.parametrize("finals", [[], [99.8]])
def test_every_published_cell_gets_exactly_one_row(finals):
    reference = read_reference(REFERENCE)
    verdicts = compare(make_runs(finals), reference, 0.5)
    assert list(verdicts.columns) == COLUMNS
    assert len(verdicts) == len(reference)
    run = verdicts["ours_n"] > 0
    assert run.sum() == len(finals)
    assert set(verdicts.loc[~run, "verdict"]) == {"not run"}
    assert verdicts.loc[~run, ["ours_mean", "ours_sem", "difference"]].isna().all(axis=None)
    assert set(verdicts.loc[run, "verdict"]) <= {"reproduced"}


@pytest.mark.parametrize(
    ("finals", "mean", "sem", "margin", "verdict"),
    [
        ([99.0], 99.5, 0.0, 0.5, "reproduced"),  # on the absolute margin
        ([99.0], 99.51, 0.0, 0.5, "below"),
        ([99.0], 98.49, 0.0, 0.5, "above"),
        ([99.0], 98.49, 0.0, 0.6, "reproduced"),
        ([99.0], 97.0, 1.0, 0.5, "reproduced"),  # on twice the published SEM
        ([99.0], 96.99, 1.0, 0.5, "above"),
        ([90.0, 92.0], 93.0, 0.0, 0.5, "reproduced"),  # our SEM is 1: std sqrt(2), two seeds
        ([90.0, 92.0], 93.01, 0.0, 0.5, "below"),
        ([90.0, 92.0], 91.0 + 2 * math.sqrt(2), 1.0, 0.5, "reproduced"),  # both SEM are 1
        ([90.0, 92.0], 91.1 + 2 * math.sqrt(2), 1.0, 0.5, "below"),
        ([99.0], 98.4, math.nan, 0.5, "above"),  # no SEM counts as 0
    ],
)
def test_the_rule_by_hand(finals, mean, sem, margin, verdict):
    (row,) = compare(make_runs(finals), make_reference(mean, sem), margin).itertuples()
    assert row.verdict == verdict
    assert row.ours_n == len(finals)
    assert row.difference == pytest.approx(statistics.fmean(finals) - mean, abs=1e-4)


PERCENT = st.floats(10, 100).map(lambda value: round(value, 2))


@given(st.lists(PERCENT, min_size=1, max_size=5), PERCENT, st.floats(0, 3).map(lambda v: round(v, 2)))
def test_the_verdict_follows_from_the_row_itself(finals, mean, sem):
    (row,) = compare(make_runs(finals), make_reference(mean, sem), 0.5).itertuples()
    ours_sem = 0.0 if len(finals) == 1 else statistics.stdev(finals) / math.sqrt(len(finals))
    assert row.ours_mean == pytest.approx(statistics.fmean(finals), abs=1e-3)
    assert (0.0 if math.isnan(row.ours_sem) else row.ours_sem) == pytest.approx(ours_sem, abs=1e-3)
    assert math.isnan(row.ours_sem) == (len(finals) == 1)
    shown_sem = 0.0 if math.isnan(row.ours_sem) else row.ours_sem
    within = abs(row.difference) <= max(0.5, 2 * math.hypot(row.paper_sem, shown_sem)) + 1e-9
    assert row.verdict == ("reproduced" if within else "above" if row.difference > 0 else "below")


def test_only_the_cell_of_the_run_is_compared():
    runs = pd.concat([make_runs([90.0]), make_runs([80.0], scenario="cl2"), make_runs([70.0], label="SI")])
    reference = pd.concat(
        [
            make_reference(90.0, 0.1),
            make_reference(80.0, 0.1, scenario="CL2"),
            make_reference(1.0, 0, "HNET+R"),
        ]
    )
    verdicts = compare(runs, reference, 0.5)
    assert list(verdicts["verdict"]) == ["reproduced", "reproduced", "not run"]
    assert list(verdicts["ours_mean"][:2]) == [90.0, 80.0]


def test_no_reference_gives_only_the_header():
    verdicts = compare(make_runs([99.0], title="digits"), make_reference(1, 1)[:0], 0.5)
    assert list(verdicts.columns) == COLUMNS
    assert verdicts.empty


@given(st.lists(PERCENT, min_size=1, max_size=6))
def test_a_summary_agrees_with_textbook_statistics(finals):
    (row,) = summarise(make_runs(finals)).to_dict("records")
    assert (row["experiment"], row["method"], row["scenario"], row["n"]) == (
        "SplitMNIST",
        "HNET+ENT",
        "CL1",
        len(finals),
    )
    assert row["mean_final_mean"] == pytest.approx(statistics.fmean(finals), abs=1e-3)
    if len(finals) == 1:
        assert math.isnan(row["mean_final_sem"])
    else:
        sem = statistics.stdev(finals) / math.sqrt(len(finals))
        assert row["mean_final_sem"] == pytest.approx(sem, abs=1e-3)


def test_a_summary_has_a_row_for_every_cell_and_empty_values_where_nothing_was_measured():
    everything = [make_record(label=label, seed=seed) for label in ("SI", "HNET+ENT") for seed in range(3)]
    summary = summarise(records.runs_table(everything))
    assert list(zip(summary["method"], summary["scenario"], summary["n"], strict=True)) == [
        ("HNET+ENT", "CL1", 3),
        ("HNET+ENT", "CL3", 3),
        ("SI", "CL1", 3),
        ("SI", "CL3", 3),
    ]
    inferred = summary["task_inference_final_mean"].notna()
    assert np.array_equal(inferred, summary["scenario"] == "CL3")
    assert summarise(records.runs_table([])).empty
