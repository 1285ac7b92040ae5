"""Random streams."""

import torch

from hnetcl.streams import draw_runs, stream


def normal(generator):
    return torch.randn(100, generator=generator)


def test_a_stream_is_the_same_each_time_it_is_opened():
    assert torch.equal(normal(stream(7, "batches", 3)), normal(stream(7, "batches", 3)))


def test_streams_differ_between_seeds_and_purposes():
    names = [
        (7, "batches", 3),
        (7, "batches", 4),
        (7, "weights", 3),
        (8, "batches", 3),
        (7, "batches"),
        (73, "batches"),
    ]
    draws = torch.stack([normal(stream(*name)) for name in names])
    correlation = torch.corrcoef(draws) - torch.eye(len(names))
    assert correlation.abs().max() < 0.5  # five standard deviations of two independent draws


def test_a_stream_does_not_depend_on_what_was_drawn_elsewhere():
    expected = normal(stream(7, "weights"))
    torch.manual_seed(123)
    normal(stream(7, "batches"))
    torch.randn(5)
    assert torch.equal(normal(stream(7, "weights")), expected)


def test_opening_a_stream_leaves_the_global_one_alone():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    normal(stream(7, "weights"))
    assert torch.equal(torch.randn(3), expected)


def test_a_seed_draws_the_same_in_any_pack():
    pack = draw_runs([3, 7, 9], normal, "weights")
    assert torch.equal(pack[1], draw_runs([7], normal, "weights")[0])
    assert not torch.equal(pack[0], pack[1])
