"""Variants of an experiment side by side, how sure networks are, what a replay model draws: tables and figures."""

import json

import numpy as np
import pandas as pd
import pytest

import plot_confidence
import plot_replay_samples
from hnetcl import figure_style as style
from hnetcl import records
from test_figures import REFERENCE, run_script  # noqa: F401 - a fixture
from test_records import make_record

TITLE = "SplitMNIST (validation)"
REPLAY = "SplitMNIST (replay)"
FINALS = {"as released": (60.0, 64.0), "slow, and long": (70.0, 72.0), "strong": (50.0,)}


@pytest.fixture
def compared(run_script, tmp_path):  # noqa: F811
    everything = [
        make_record(f"{TITLE}, {variant}", seed=seed, scenarios=("cl1", "cl3"), final=final)
        for variant, finals in FINALS.items()
        for seed, final in enumerate(finals)
    ]
    everything += [make_record(f"{REPLAY}, perfect", "HNET+R", scenarios=("cl2",), final=97.0)]
    everything += [make_record("SplitMNIST", seed=1), make_record(f"{TITLE}, not asked for", seed=1)]
    records.write_table(records.runs_table(everything), tmp_path / "runs.csv")
    names = {kind: tmp_path / f"variants.{kind}" for kind in ("csv", "md", "png", "pdf")}
    done = run_script(
        "compare_variants.py",
        *("--runs", tmp_path / "runs.csv", "--titles", TITLE, REPLAY, "--variants", *FINALS, "perfect"),
        *("--published", REFERENCE, "--published-title", "SplitMNIST"),
        *("--csv", names["csv"], "--markdown", names["md"]),
        *("--png", names["png"], "--pdf", names["pdf"]),
    )
    assert done.returncode == 0, done.stderr
    return names


def test_variants_are_ranked_by_their_mean_within_a_scenario(compared):
    table = pd.read_csv(compared["csv"])
    for _, own in table[table["method"] == "HNET+ENT"].groupby("scenario"):
        assert own["variant"].tolist() == ["slow, and long", "as released", "strong"]
        assert own["n"].tolist() == [2, 2, 1]
        assert own["mean_final_mean"].tolist() == [71.0, 62.0, 50.0]
        assert own["mean_final_sem"].tolist()[:2] == [1.0, 2.0] and own["mean_final_sem"].isna().tolist()[2]
    (other,) = table[table["method"] == "HNET+R"].itertuples()
    assert (other.variant, other.scenario, other.n, other.mean_final_mean) == ("perfect", "CL2", 1, 97.0)


def test_the_table_of_variants_ends_with_the_published_values(compared):
    lines = compared["md"].read_text().splitlines()
    assert lines[0] == "| HNET+ENT, final accuracy in % | CL1 | CL3 |"
    assert lines[2] == "| slow, and long | 71.00 ± 1.00 (n=2) | 71.00 ± 1.00 (n=2) |"
    assert lines[4] == "| strong | 50.00 (n=1) | 50.00 (n=1) |"
    assert lines[5] == "| published | 99.79 | 69.48 |"
    assert lines[6:] == [
        "",
        "| HNET+R, final accuracy in % | CL2 |",
        "| --- | --- |",
        "| perfect | 97.00 (n=1) |",
        "| published | 98.00 |",
    ]
    assert all(compared[kind].stat().st_size > 1000 for kind in ("png", "pdf"))


def test_the_map_of_confidence_shows_means_over_seeds(tmp_path):
    rows = [
        {
            "seed": seed,
            "task": task,
            "network": network,
            "median_margin": 10 * task + network + 2 * seed,
            "chosen": 50.0,
            "chosen_calibrated": 50.0,
        }
        for seed in (1, 2)
        for task in (1, 2)
        for network in (1, 2)
    ]
    with style.figure_style():
        figure = plot_confidence.draw(pd.DataFrame(rows), "Tiny")
        style.save_figure(figure, tmp_path / "c.png", tmp_path / "c.pdf")
    shown = [float(text.get_text()) for text in figure.axes[0].texts]
    assert shown == [14, 15, 24, 25]  # means over seeds 1 and 2: 10 task + network + 3
    assert "n=2" in figure._supxlabel.get_text()


def test_images_are_shown_where_they_belong(run_script, tmp_path):  # noqa: F811
    images = np.zeros((2, 3, 4, 5, 5), np.uint8)
    for moment in range(2):
        for task in range(3):
            images[moment, task] = 100 * moment + 10 * task + 1
    spec = {"title": "Tiny", "label": "HNET+R", "seed": 4}
    more = np.concatenate([images, images, images], axis=1)
    other = spec | {"title": "Tiny, adversarial"}
    for models in ([(images, spec)], [(more, spec), (images, other)]):
        figure = plot_replay_samples.draw(models)
        shown = [ax for ax in figure.axes if ax.images]
        for number, ax in enumerate(shown):
            task, canvas = number % 3, ax.images[0].get_array()
            assert canvas.shape == (11, 23)
            assert (canvas[:5, :5] == 10 * task + 1).all() and (canvas[6:, 6:11] == 100 + 10 * task + 1).all()
        assert len(shown) == sum(drawn.shape[1] for drawn, _ in models)
    assert [block._suptitle.get_text() for block in figure.subfigs] == ["Tiny", "Tiny, adversarial"]
    for name, (drawn, about) in zip("ab", models, strict=True):
        np.savez(tmp_path / f"{name}.npz", images=drawn, about=json.dumps({"spec": about}))
    samples = (tmp_path / "a.npz", tmp_path / "b.npz")
    done = run_script(
        "plot_replay_samples.py", "--samples", *samples, "--png", tmp_path / "s.png", "--pdf", tmp_path / "s.pdf"
    )
    assert done.returncode == 0, done.stderr
