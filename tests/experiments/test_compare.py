"""Comparison of schedules on a task from arrays: each trial equals its run alone."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.compare import compare, draw
from experiments.errors import UserError
from experiments.program import assemble, parallel
from experiments.program.steps import Batches
from experiments.results import intervals
from experiments.tasks.arrays import classifier, from_losses

RNG = np.random.default_rng(0)
POINTS = {
    split: {"x": RNG.normal(size=(size, 3)).astype(np.float32)}
    for split, size in (("train", 40), ("test", 24))
}
for points in POINTS.values():
    points["y"] = points["x"] @ np.array([1, -2, 3], np.float32)
SCHEDULES = {
    "constant": optax.constant_schedule,
    "cosine": lambda peak: optax.cosine_decay_schedule(peak, 12),
}
ARGUMENTS = {"seeds": (0, 3), "num_steps": 12, "peaks": (0.01, 1e9), "batch_size": 8}


def linear():
    return from_losses(
        lambda key: jax.random.normal(key, (3,)),
        lambda params, batch: jnp.square(batch["x"] @ params - batch["y"]),
        POINTS["train"],
        POINTS["test"],
    )


@functools.cache
def table():
    return compare(linear(), SCHEDULES, **ARGUMENTS)


def alone(schedule, seed):
    """Returns the last training loss and the losses of each evaluation of a run alone."""
    strategy = parallel.make_strategy("jit", jax.devices()[:1])
    programs = assemble.compiled(
        linear(), optax.sgd(schedule, momentum=0.9), Batches(40, 8, 500), strategy
    )
    train, test = (parallel.to_devices(split, strategy.replicated) for split in linear().load())
    state = programs.init(np.array([0, seed], np.uint32))
    tested = []
    for number in (5, 5, 2):
        order = programs.order(state)
        state, metrics, _ = programs.train(state, train, order, number)
        tested.append(float(programs.evaluate(state, test).compute()["loss"]))
    return float(metrics.compute()["loss"]), tested


def test_a_trial_equals_its_run_alone():
    rows = table().set_index(["schedule", "peak", "seed"])
    assert len(rows) == 8
    train_loss, tested = alone(SCHEDULES["cosine"](0.01), seed=3)
    row = rows.loc[("cosine", 0.01, 3)]
    assert row.train_loss == pytest.approx(train_loss, rel=1e-5)
    assert row.test_loss == pytest.approx(tested[-1], rel=1e-5)
    assert row.best_test_loss == pytest.approx(min(tested), rel=1e-5)
    assert row.score == row.test_loss
    other = rows.loc[("cosine", 0.01, 0)]
    assert other.test_loss != row.test_loss


def test_a_trial_that_diverges_failed_and_scores_the_worst_of_the_others():
    """Without a chance level, that is the worst score of the comparison."""
    hot = table().peak == 1e9
    assert (table().failed == hot).all()
    assert (table().score[hot] == table().score[~hot].max()).all()
    assert list(table().columns) == [
        *("schedule", "peak", "seed", "diverged", "failed", "score"),
        *("train_loss", "test_loss", "best_test_loss"),
    ]


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(2)(x)


@functools.cache
def classes():
    train, test = ((of["x"], (of["y"] > 0).astype(int)) for of in POINTS.values())
    task = classifier(Network(), train, test)
    schedules = {"constant": lambda peak: optax.constant_schedule(peak)}
    return compare(task, schedules, seeds=range(3), num_steps=80, peaks=[0.0, 0.3], batch_size=20)


def test_classifier_has_an_accuracy_and_fails_at_chance():
    rows = classes()
    learned = rows[rows.peak == 0.3]
    assert (learned.test_accuracy > 0.8).all()
    assert not learned.failed.any()
    assert (rows.score[rows.failed] == 0.5).all()
    assert (rows.best_test_accuracy >= rows.test_accuracy).all()


def test_figure_shows_means_with_intervals_over_seeds():
    left, right = draw(classes()).axes
    mean, half_width = intervals.mean_interval(100 * classes()[classes().peak == 0.3].score)
    for axis, index in ((left, 1), (right, 0)):
        ((line, _, (bars,)),) = axis.containers
        assert line.get_ydata()[index] == pytest.approx(mean)
        low, high = bars.get_segments()[index][:, 1]
        assert (low, high) == pytest.approx((mean - half_width, mean + half_width))
    assert right.texts[0].get_text() == "peak 0.3"
    assert left.get_ylabel() == "accuracy (%)"


def test_figure_of_failed_trials_names_them():
    _, right = draw(table()[table().peak == 1e9].assign(score=np.nan)).axes
    assert [text.get_text() for text in right.texts] == 2 * ["all failed"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": 3}, "^task has type int; it must be an experiments.tasks.task.Task; experime"),
        ({"task": linear()._replace(stream=())}, "^the data set arrays stays on disk, and all tri"),
        ({"schedules": {}}, r"^schedules=\{\} must be a dict from names to functions of a peak"),
        ({"schedules": {"a": 0.1}}, r"^schedules\['a'\] must map a peak .* peak=0.01 it raises Ty"),
        (
            {"schedules": {"a": lambda peak: lambda step: jnp.nan}},
            r"^schedules\['a'\] has the learning rate nan at step 0 for peak=0.01",
        ),
        ({"seeds": 3}, "^seeds=3 must be a list of different ints from 0"),
        ({"seeds": [0, 0]}, r"^seeds=\[0, 0\] must be a list of different ints"),
        ({"seeds": [-1]}, r"^seeds=\[-1\] must be"),
        ({"peaks": []}, r"^peaks=\[\] must be a list of different finite numbers, at least one"),
        ({"peaks": [float("inf")]}, r"^peaks=\[inf\] must be"),
        ({"num_steps": 0}, "^num_steps=0 must be an int of at least 1"),
        ({"batch_size": 41}, "^batch_size=41 must be an int from 1 to the number .*, 40$"),
    ],
)
def test_wrong_argument_is_one_sentence(changes, message):
    arguments = {"task": linear(), "schedules": SCHEDULES, **ARGUMENTS, **changes}
    with pytest.raises(UserError, match=message) as error:
        compare(arguments.pop("task"), arguments.pop("schedules"), **arguments)
    assert "\n" not in str(error.value)


def test_figure_of_another_table_is_refused():
    plain = table().copy()
    plain.attrs = {}
    with pytest.raises(UserError, match="the table has no attrs"):
        draw(plain)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (
            {"x": np.zeros((3, 2))},
            {"y": np.zeros((3, 2))},
            "train has the arrays x, but test h",
        ),
        ({"x": np.zeros((0, 2))}, {"x": np.zeros((3, 2))}, "train has no examples; it needs at le"),
        ({"x": np.zeros((3, 2))}, {"x": np.zeros((3, 4))}, r"example of x has the shape \(2,\), b"),
        (
            {"x": np.zeros((3, 2)), "y": np.zeros(4)},
            {"x": np.zeros((3, 2)), "y": np.zeros(3)},
            r"arrays of train must have one length, .*; their shapes are x \(3, 2\), y \(4,\)",
        ),
        ({}, {}, "the arrays of train must have one length, .* their shapes are missing"),
    ],
)
def test_arrays_that_no_batch_can_be_cut_from_are_refused(train, test, message):
    with pytest.raises(UserError, match=message):
        from_losses(lambda key: 0, lambda params, batch: 0, train, test)
