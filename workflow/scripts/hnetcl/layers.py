"""Layers over the run axis: every tensor carries R runs in front, every layer is one batched matrix product.

Affine maps of the hypernetwork are kept in homogeneous form, ``[R, inputs + 1, outputs]`` with the bias as the last
row, so that one product applies weight and bias together and a layer is a single tensor.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

# A product is long where the inner dimension is this many times the outer ones; it is then computed in parts: on a CPU
# so many, on a GPU about as many as it has units, of a multiple of so many columns.
_LONG, _PARTS = 64, 4
_GPU_PARTS, _GPU_PART = 128, 32

ACTIVATIONS = {"relu": functional.relu, "elu": functional.elu, "sigmoid": torch.sigmoid}
# From the gradient by what they return, and that value, to the gradient by their argument: autograd's own kernels.
BACKWARD = {
    "relu": lambda gradient, y: torch.ops.aten.threshold_backward(gradient, y, 0),
    "elu": lambda gradient, y: torch.ops.aten.elu_backward(gradient, 1, 1, 1, True, y),
    "sigmoid": torch.ops.aten.sigmoid_backward,
}


def with_ones(x: Tensor) -> Tensor:
    """Append the constant 1 that meets the bias row: ``[..., n] -> [..., n + 1]``."""
    return functional.pad(x, (0, 1), value=1.0)


def affine(x: Tensor, layer: Tensor) -> Tensor:
    """Apply a homogeneous ``layer [R, n + 1, m]`` to ``x [R, B, n]``."""
    return torch.baddbmm(layer[:, -1:], x, layer[:, :-1])


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply ``weight [R, out, in]`` and ``bias [R, out]``, as target networks have them, to ``x [R, B, in]``."""
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def affine_gradient(x: Tensor, by_output: Tensor) -> Tensor:
    """Return a loss's gradient by a homogeneous layer from its input ``[R, B, n]`` and that by its output."""
    return torch.cat([torch.bmm(x.transpose(1, 2), by_output), by_output.sum(1, keepdim=True)], dim=1)


def long_product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a b'`` for few rows and long ones, ``[R, m, n]`` and ``[R, k, n]`` to ``[R, m, k]``.

    The result is small, and a BLAS shares out results: on a CPU a single run would keep one thread busy, on a GPU any
    number of runs a few of its units. The rows are cut into parts, which are a batch, and the products of the parts
    are added up.
    """
    runs, rows, length = a.shape
    if length < _LONG * max(rows, b.shape[1]) or (runs > 1 and not a.is_cuda):
        return torch.bmm(a, b.transpose(1, 2))
    part = max(_GPU_PART, length // _GPU_PARTS // _GPU_PART * _GPU_PART) if a.is_cuda else length // _PARTS
    return torch.stack([_product_in_parts(a[run], b[run], part) for run in range(runs)])


def _product_in_parts(a: Tensor, b: Tensor, part: int) -> Tensor:
    """Return the product ``a b'`` of ``a [m, n]`` and ``b [k, n]``, of ``part`` columns at a time and what is left."""
    whole = a.shape[1] - a.shape[1] % part
    parts = [x[:, :whole].unflatten(1, (-1, part)).transpose(0, 1) for x in (a, b)]
    product = torch.bmm(parts[0], parts[1].transpose(1, 2)).sum(0)
    if whole < a.shape[1]:
        product.addmm_(a[:, whole:], b[:, whole:].T)
    return product


def xavier_uniform(generator: torch.Generator, fan_out: int, fan_in: int) -> Tensor:
    """Draw a weight ``[fan_out, fan_in]`` from U(-a, a), a = sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    return torch.empty(fan_out, fan_in).uniform_(-bound, bound, generator=generator)


def xavier_affine(generator: torch.Generator, fan_in: int, fan_out: int) -> Tensor:
    """Draw a homogeneous layer ``[fan_in + 1, fan_out]``: Xavier-uniform weight, zero bias (last row)."""
    weight = xavier_uniform(generator, fan_out, fan_in).T
    return functional.pad(weight, (0, 0, 0, 1)).contiguous()


def xavier_or_zero(generator: torch.Generator, shape: tuple[int, ...], fan_in: int) -> Tensor:
    """Draw a weight as ``xavier_uniform`` does; a bias is zero."""
    return torch.zeros(shape) if len(shape) == 1 else xavier_uniform(generator, *shape)


def fan_in_uniform(generator: torch.Generator, shape: tuple[int, ...], fan_in: int) -> Tensor:
    """Draw a weight or bias from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the default of ``torch.nn.Linear``."""
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean softmax cross-entropy of each run: ``[R, ..., K]`` and ``[R, ...]`` to ``[R]``."""
    losses = functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return losses.view(len(labels), -1).mean(1)


def cross_entropy_and_gradient(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of each run, ``[R]``, and its gradient by ``logits [R, B, K]``, with no graph for it.

    By autograd's own kernels; its bookkeeping takes longer than they do.
    """
    flat, targets = logits.flatten(0, -2), labels.flatten()
    log_p = flat.log_softmax(1)
    losses, weight = torch.ops.aten.nll_loss_forward(log_p, targets, None, 0, -100)
    shares = log_p.new_full(targets.shape, len(labels) / len(targets))
    by_log_p = torch.ops.aten.nll_loss_backward(shares, log_p, targets, None, 0, -100, weight)
    by_logits = torch.ops.aten._log_softmax_backward_data(by_log_p, log_p, 1, log_p.dtype)
    return losses.view(len(labels), -1).mean(1), by_logits.view(logits.shape)


def distillation(logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """Mean over samples of -T^2 sum_k p_k log softmax(logits / T)_k of each run, ``[R, ..., K]`` to ``[R]``.

    ``probabilities [R, ..., k]`` are the targets at the same temperature; where k < K, the further units' targets are
    zero (Hinton et al. 2015; the square keeps the gradient's size).
    """
    log_q = (logits / temperature).log_softmax(-1)[..., : probabilities.shape[-1]]
    return -(temperature**2) * (probabilities * log_q).sum(-1).flatten(1).mean(1)


def named_gradients(loss: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradient of each run's ``loss [R]`` by its own parameters; runs do not touch each other."""
    return dict(zip(parameters, torch.autograd.grad(loss.sum(), parameters.values()), strict=True))
