"""Accuracy over the plane of task embeddings: the measurement and its figure."""

import numpy as np
import pytest
import torch

import measure_landscape
import plot_landscape
from hnetcl import figure_style as style
from hnetcl.catalogue import METHODS
from hnetcl.tasks import TaskSequence


@pytest.fixture
def trained(make_spec, dataset):
    spec = make_spec("hnet_ent", "cl1-cl3", {"methods.hnet_ent.hypernetwork.task_embedding": 2})
    sequence = TaskSequence(spec, [3], dataset)
    method = METHODS["hnet_ent"].load()(spec, sequence)
    for task in range(3):
        method.begin_task(task)
        stage = sequence.training_stage(task, seen=False, iterations=20, batch_size=8)
        for iteration in range(20):
            method.step(stage[iteration], iteration)
    return method, sequence


@pytest.mark.parametrize("task", [0, 2])
def test_each_point_of_the_plane_is_the_accuracy_of_the_network_generated_there(trained, task):
    method, sequence = trained
    classifier = method.classifier
    axis = torch.linspace(-2, 2, 7)
    found = measure_landscape.landscape(classifier, sequence, task, axis, images=1000)
    samples, valid = sequence.test_set(task)
    batch = sequence.test_batch(task, samples[:, valid[0]])
    for row, y in enumerate(axis):
        for column, x in enumerate(axis):
            with torch.no_grad():  # the embedding itself is moved there
                classifier.hypernetwork.task_embeddings[task].copy_(torch.stack([x, y]).unsqueeze(0))
            right = classifier.answer_for_given_task()(batch.x, task) == batch.labels
            assert found[row, column] == pytest.approx(100 * right.double().mean().item())


def test_the_map_shown_is_that_of_the_median_seed_and_every_seed_has_a_line():
    axis = np.linspace(-1, 1, 5)
    accuracy = np.full((3, 2, 5, 5), 60.0)
    for seed, count in enumerate((20, 4, 10)):  # points of the last task above 95 %
        accuracy[seed, 1].flat[:count] = 97.0
    landscape = {
        "seeds": np.array([7, 8, 9]),
        "axis": axis,
        "accuracy": accuracy,
        "embeddings": np.zeros((3, 5, 2)),
        "final": np.full((3, 5), 99.5),
        "during": np.full((3, 5), 99.6),
        "images": np.array(500),
    }
    assert plot_landscape.typical_seed(accuracy) == 2
    with style.figure_style():
        figure = plot_landscape.draw(landscape, "Some sequence")
    note = figure._supxlabel.get_text().replace("\n", " ")
    assert "Maps of seed 9" in note
    assert "99.50 ± 0.000 %" in note
    region = next(ax for ax in figure.axes if ax.get_title() == "Share of the plane (%)")
    assert len(region.get_lines()) == 6
    above_90 = {line.get_ydata()[np.flatnonzero(line.get_xdata() == 90)[0]] for line in region.get_lines()}
    assert above_90 == {0.0, 16.0, 40.0, 80.0}
