"""The one-dimensional regression: its data, its ways of learning, its table and figure."""

import copy
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import nn

import plot_toy
import train_toy
from conftest import REPOSITORY
from hnetcl import figure_style as style
from hnetcl import toy_table
from hnetcl.regression import LEARNERS, Fit, Trainer, make_tasks, mean_squared_errors
from hnetcl.spec import ConfigurationError

pytestmark = pytest.mark.usefixtures("unprepared")

SETTINGS = yaml.safe_load((REPOSITORY / "config/toy.yaml").read_text())
REFERENCE = REPOSITORY / "config/reference.csv"


def settings(iterations=30, seeds=(1, 2), **changes):
    changed = copy.deepcopy(SETTINGS) | {"seeds": list(seeds)} | changes
    changed["optimisation"]["iterations"] = iterations
    return changed


def test_every_task_has_the_same_places_in_its_domain_and_the_same_noise():
    tasks = make_tasks(seed=42, training_points=100, noise=0.05, test_points=50)
    truths = [lambda x: x + 3, lambda x: 2 * x * x - 1, lambda x: (x - 3) * (x - 3) * (x - 3)]
    for task, truth, low in zip(tasks, truths, (-4, -1, 2), strict=True):
        torch.testing.assert_close(task.test_x, torch.linspace(low, low + 2, 50))
        torch.testing.assert_close(task.test_y, truth(task.test_x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close((task.train_x - low) / 2, (tasks[0].train_x + 4) / 2, rtol=1e-5, atol=1e-5)
        noise = task.train_y - truth(task.train_x)
        assert noise.std() == pytest.approx(0.05, rel=0.3)
        torch.testing.assert_close(noise, tasks[0].train_y - truths[0](tasks[0].train_x), rtol=1e-3, atol=1e-5)


def test_the_hypernetwork_has_the_published_size_and_a_head_for_every_tensor():
    network, _ = Trainer(settings(seeds=range(200)))._new_hypernetwork("hypernetwork", 0.0)
    assert network.num_parameters == 1691 + 3 * 2
    sizes = [10, 10, 100, 10, 10, 1]
    for head in network.shared["output"][:, :-1].split(sizes, dim=2):
        assert head.abs().max().item() == pytest.approx((6 / (10 + head.shape[2])) ** 0.5, rel=0.01)
    assert not network.shared["output"][:, -1].any()


def test_a_seed_learns_the_same_alone_and_in_a_pack():
    together, alone = Trainer(settings(seeds=(1, 2, 3))), Trainer(settings(seeds=(2,)))
    for learn in LEARNERS.values():
        for many, one in zip(learn(together), learn(alone), strict=True):
            assert many.after_task == one.after_task
            torch.testing.assert_close(many.predictions[1:2], one.predictions, rtol=1e-4, atol=1e-4)


def test_the_regulariser_keeps_what_fine_tuning_forgets():
    trainer = Trainer(settings(iterations=1500))
    kept, forgotten = (
        mean_squared_errors(LEARNERS[name](trainer)[-1], trainer.tasks) for name in ("HNET", "HNET, fine-tuning")
    )
    assert (kept[:, :2] < 0.2 * forgotten[:, :2]).all()


def test_fisher_information_is_the_mean_of_squared_gradients_of_half_the_squared_error():
    trainer = Trainer(settings())
    network, task = trainer._new_target(0.01), trainer.tasks[1]
    found = trainer._fisher(network, task)
    for run in range(2):
        weights = [weight[run].detach() for weight in network.weights.values()]
        plain = nn.Sequential(nn.Linear(1, 10), nn.Sigmoid(), nn.Linear(10, 10), nn.Sigmoid(), nn.Linear(10, 1))
        with torch.no_grad():
            for parameter, weight in zip(plain.parameters(), weights, strict=True):
                parameter.copy_(weight)
        expected = [torch.zeros_like(p) for p in plain.parameters()]
        for x, y in zip(task.train_x, task.train_y, strict=True):
            plain.zero_grad()
            (0.5 * (plain(x.view(1, 1)) - y) ** 2).sum().backward()
            for total, parameter in zip(expected, plain.parameters(), strict=True):
                total += parameter.grad**2 / 100
        for value, total in zip(found.values(), expected, strict=True):
            torch.testing.assert_close(value[run], total, rtol=1e-4, atol=1e-7)


def test_a_strong_penalty_of_ewc_holds_the_weights_of_the_first_task():
    loose, tight = (Trainer(settings(400, ewc={"strength": strength})) for strength in (0.0, 1e4))
    moved = []
    for trainer in (loose, tight):
        first, *_, last = trainer.ewc()
        moved.append((last.predictions[:, 0] - first.predictions[:, 0]).abs().mean())
    assert moved[1] < 0.5 * moved[0]


def test_errors_are_mean_squared_differences_on_the_test_points():
    tasks = make_tasks(seed=1, training_points=5, noise=0.0, test_points=4)
    off = torch.stack([task.test_y + 0.1 * (number + 1) for number, task in enumerate(tasks)])
    found = mean_squared_errors(Fit(3, off.unsqueeze(0)), tasks)
    torch.testing.assert_close(found, torch.tensor([[0.01, 0.04, 0.09]]))


def make_errors(scale=1.0):
    """Errors whose medians are ``scale`` times the published ones."""
    rows = []
    for _, method, when, task, mse in toy_table.read_published(REFERENCE).itertuples():
        for after in {"final": [3], "during": [task] if task < 3 else []}[when]:
            rows += [(method, seed, after, task, scale * mse * factor) for seed, factor in ((1, 0.5), (2, 1), (3, 9))]
    return pd.DataFrame(rows, columns=list(toy_table.ERROR_COLUMNS))


@pytest.mark.parametrize("scale, verdict", [(1.9, "reproduced"), (0.55, "reproduced"), (2.1, "higher"), (0.4, "lower")])
def test_reproduced_means_within_a_factor_of_two_of_the_median(scale, verdict):
    published = toy_table.read_published(REFERENCE)
    assert len(published) == 15
    table = toy_table.compare(make_errors(scale), published)
    assert set(table["verdict"]) == {verdict}
    assert set(table["n"]) == {3}
    hnet = table[(table["method"] == "HNET") & (table["when"] == "final")]
    np.testing.assert_allclose(hnet["published"], [0.004188, 0.002388, 0.006072], rtol=1e-3)


def test_the_scripts_train_compare_and_draw(tmp_path, monkeypatch):
    config = tmp_path / "toy.yaml"
    config.write_text(yaml.safe_dump(settings(iterations=5, seeds=(1, 2, 3))))
    errors, curves = tmp_path / "toy.csv", tmp_path / "toy_curves.csv"
    arguments = ["train_toy", "--config", str(config), "--errors", str(errors), "--curves", str(curves)]
    monkeypatch.setattr(sys, "argv", arguments)
    train_toy.main()
    found = toy_table.read_errors(errors)
    counts = found.groupby("method").size()
    # One, two and three tasks after each of them; all three where they are not learned in sequence.
    assert counts.to_dict() == {
        "HNET": 18,
        "HNET, fine-tuning": 18,
        "EWC": 18,
        "HNET, from scratch": 9,
        "Joint training": 9,
    }
    with style.figure_style():
        figure = plot_toy.draw(pd.read_csv(curves), found, toy_table.read_published(REFERENCE))
    assert len(figure.axes) == 3 * 3 + 2 + 1
    assert "n=3. Upper right" in figure._supxlabel.get_text().replace("\n", " ")


def test_a_wrong_setting_is_named_before_any_training(tmp_path, monkeypatch):
    config = tmp_path / "toy.yaml"
    config.write_text(yaml.safe_dump(settings() | {"beta": -1}))
    arguments = ["--config", str(config), "--errors", str(tmp_path / "e.csv"), "--curves", str(tmp_path / "c.csv")]
    monkeypatch.setattr(sys, "argv", ["train_toy", *arguments])
    with pytest.raises(ConfigurationError, match=r"beta = -1 is not allowed\. Allowed: at least 0"):
        train_toy.main()
    assert not (tmp_path / "e.csv").exists()
