"""Every chain of preprocessing steps is accepted, or refused in one sentence."""

import itertools

import pytest

from experiments.data import chain
from experiments.errors import UserError

ORDER = ("contrast_stretching", "global_contrast_normalization", "pixel_mean", "standardize", "zca")


def in_order(steps):
    """Returns whether steps may follow one another, by an independent formulation."""
    return (
        len(set(steps)) == len(steps)
        and "contrast_stretching" not in steps[1:]
        and ("zca" not in steps or steps[steps.index("zca") + 1 :] in ((), ORDER[1:2]))
    )


def test_every_order_is_accepted_or_refused_in_one_line():
    accepted = 0
    for length in range(4):
        for steps in itertools.product(ORDER, repeat=length):
            if in_order(steps):
                chain.check(steps)
                accepted += 1
            else:
                with pytest.raises(UserError) as error:
                    chain.check(steps)
                assert "\n" not in str(error.value)
                assert any(repr(name) in str(error.value) for name in steps)
    # By hand: the empty chain, 5 chains of one step, and 14 of the 20 pairs.
    assert sum(in_order(steps) for steps in itertools.product(ORDER, repeat=2)) == 14
    assert accepted > 1 + 5 + 14


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (("zca", "zca"), "contains 'zca' twice; list each step once"),
        (("standardize", "contrast_stretching"), "must list .* first, before 'standardize'"),
        (("zca", "pixel_mean"), "'pixel_mean' after 'zca', .* only global_contrast_normalization"),
    ],
)
def test_impossible_order_is_refused(steps, message):
    with pytest.raises(UserError, match=message):
        chain.check(steps)
