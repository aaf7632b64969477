"""The alarm of the compiled steps: it reports the first step whose loss is too high."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.program import alarm
from experiments.program.alarm import NO_LIMIT, SILENT, LossLimit
from experiments.program.state import TrainState
from experiments.program.steps import Batches, make_train_steps
from experiments.tasks.classification import Metrics


def after(losses, limit=NO_LIMIT):
    """Returns the alarm after steps 1, 2, ... with these losses, in a compiled loop."""

    def body(index, state):
        return alarm.watch_loss(state, step=index + 1, loss=losses[index], limit=limit)

    losses = jnp.asarray(losses, jnp.float32)
    return jax.jit(lambda: jax.lax.fori_loop(0, len(losses), body, alarm.silent()))()


@pytest.mark.parametrize(
    ("losses", "limit", "first"),
    [
        ([1, 9, 3e38], LossLimit(), None),
        ([1, np.nan, 2], LossLimit(), 2),
        ([1, 2, np.inf], LossLimit(), 3),
        ([1, -np.inf], LossLimit(), 2),
        ([1, 4.5, 4.6, 9], LossLimit(4.5), 3),
        ([9, 9, 4.5, 4.6], LossLimit(4.5, 2), 4),
        ([9, 9, 9], LossLimit(4.5, 2), 3),
        ([9, np.nan, 9], LossLimit(4.5, 2), 2),
        ([9, 9, 1], LossLimit(4.5, 2), None),
    ],
)
def test_alarm_keeps_the_first_loss_that_is_too_high(losses, limit, first):
    seen = after(losses, limit)
    assert int(seen.step) == (SILENT if first is None else first)
    if first is not None:
        np.testing.assert_array_equal(seen.loss, np.float32(losses[first - 1]))


def state(weight=1.0, statistic=1.0, trace=1.0):
    return TrainState(
        step=jnp.asarray(3),
        params={"w": jnp.array([1.0, weight])},
        batch_stats={"mean": jnp.array([statistic])},
        opt_state=({"trace": jnp.array([trace])}, jnp.asarray(3)),
        key=jax.random.key(0),
    )


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["weight", "statistic", "trace"])
def test_value_that_is_not_finite_is_found_in_every_part_of_the_state(where, broken):
    assert alarm.watch_state(alarm.silent(), state()).finite
    assert not alarm.watch_state(alarm.silent(), state(**{where: broken})).finite


def test_integers_of_the_state_are_not_checked():
    counted = state().replace(opt_state=(jnp.asarray(2**31 - 1), jnp.asarray(False)))
    assert alarm.watch_state(alarm.silent(), counted).finite


def test_loop_watches_every_step():
    """Two dispatches of one epoch run steps 1 to 6; the loss of step 5 is too high."""

    def train_step(state, batch):
        loss = jnp.where(state.step == 4, 5.0, 1.0) * jnp.ones(2)
        metrics = Metrics.single_from_model_output(
            loss=loss, logits=jnp.zeros((2, 3)), labels=batch["label"]
        )
        return state.replace(step=state.step + 1), metrics

    split = {"label": jnp.zeros(12, jnp.int32)}
    train_steps = jax.jit(
        make_train_steps(train_step, Metrics.empty, Batches(12, 2, 12), loss_limit=LossLimit(4.5)),
        donate_argnums=0,
    )
    start = state().replace(step=jnp.asarray(0, jnp.int32))
    middle, _, first = train_steps(start, split, jnp.arange(12), 3)
    assert int(first.step) == SILENT
    _, _, second = train_steps(middle, split, jnp.arange(12), 3)
    assert (int(second.step), float(second.loss)) == (5, 5.0)
    assert second.finite
