"""Compares the library's schedules with formulas, optax, and PyTorch.

Each comparison states the formula in float64, so the values of PyTorch are also tested where
PyTorch is not installed. PyTorch is optional (extra `benchmarks`), because its default Linux
package includes several gigabytes of CUDA libraries. To run its comparisons, install the CPU build
as described on pytorch.org.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest

import loganneal_jax as la

PEAK, END = 0.1, 0.001


class Comparison(NamedTuple):
    """A schedule of the library and its peers.

    Attributes:
      ours: Schedule of the library.
      formula: Function from float64 steps to values.
      num_steps: Number of steps for which all peers agree.
      from_optax: Schedule of optax, if any.
      from_pytorch: Function from `torch.optim.lr_scheduler` and an optimizer to a scheduler of
        PyTorch, if any.
    """

    ours: optax.Schedule
    formula: Callable[[np.ndarray], np.ndarray]
    num_steps: int
    from_optax: optax.Schedule | None = None
    from_pytorch: Callable[[Any, Any], Any] | None = None


def pairs(comparisons):
    """Lists the name of each comparison with each of its peers."""
    return [
        (name, peer)
        for name, comparison in comparisons.items()
        for peer in ("formula", "from_optax", "from_pytorch")
        if getattr(comparison, peer) is not None
    ]


def assert_matches(comparison, peer):
    ours = tabulate(comparison.ours, comparison.num_steps)
    if peer == "from_optax":
        # Ours is more accurate near zero, so the tolerance is relative to the peak.
        theirs = tabulate(comparison.from_optax, comparison.num_steps)
        np.testing.assert_allclose(ours, theirs, atol=2e-8)
        return
    if peer == "from_pytorch":
        expected = pytorch_values(comparison.from_pytorch, comparison.num_steps)
    else:
        expected = comparison.formula(np.arange(comparison.num_steps, dtype=float))
    np.testing.assert_allclose(ours, expected, rtol=2e-6, atol=1e-12)


@functools.cache
def tabulate(schedule, num_steps):
    return jax.jit(lambda: la.tabulate(schedule, num_steps))()


def pytorch_values(make, num_steps):
    """Returns the learning rates of a PyTorch optimizer at each step."""
    torch = pytest.importorskip("torch")
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    scheduler = make(torch.optim.lr_scheduler, sgd)
    values = []
    for step in range(num_steps):
        values.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if step + 1 < num_steps:
            scheduler.step()
    return np.array(values)


def cosine(elapsed, period, peak=PEAK, end=END):
    """Evaluates cosine annealing in float64."""
    return end + (peak - end) * 0.5 * (1 + np.cos(np.pi * elapsed / period))


def with_warmup(formula, step, warmup_steps, init_value):
    """Evaluates a formula after a linear warmup to its first value."""
    warmup = init_value + (formula(np.zeros(1)) - init_value) * step / warmup_steps
    return np.where(step < warmup_steps, warmup, formula(np.maximum(step - warmup_steps, 0)))


def sgdr(interval, multiplier, num_cycles):
    """Builds optax's cosine annealing with warm restarts."""
    cycle = {"init_value": PEAK, "peak_value": PEAK, "warmup_steps": 0, "end_value": END}
    lengths = [interval * multiplier**k for k in range(num_cycles)]
    return optax.sgdr_schedule([{**cycle, "decay_steps": length} for length in lengths])
