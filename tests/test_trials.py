"""A trial among many is the run made alone, whatever its schedule, in one program for all."""

from functools import partial

import jax
import numpy as np
import pytest

from configs.sweeps import digits
from experiments import build, matrix, parallel, step, trials

SETTINGS = (
    {"name": "constant", "schedule.name": "constant", "schedule.init_value": 0.05},
    {"name": "log", "schedule.name": "cyclical_log_annealing", "schedule.init_decay_epochs": 1.0},
    {"name": "cosine", "schedule.name": "cosine", "optimizer.weight_decay": 0.02},
    {"name": "hot", "schedule.name": "constant", "optimizer.weight_decay": 1e9},
    {"name": "sig+", "schedule.name": "sig+", "schedule.warmup_epochs": 0.5},
)


def trials_of():
    config = digits.get_config()
    config.grid = ()
    config.seeds = (0, 7)
    config.settings = SETTINGS
    config.base.epochs = 2.0
    config.base.batch_size = 256
    config.base.model.width_multiplier = 0.02
    return matrix.final_trials(config, {s["name"]: {} for s in SETTINGS})


def run_block(block_trials, batched=trials.one_after_another):
    """Two epochs of all trials; their state and metrics of training and test."""
    first = block_trials[0]
    mesh = trials.make_mesh()
    padded = [*block_trials, *[block_trials[-1]] * (-len(block_trials) % mesh.size)]
    block = trials.make_block([t.config for t in padded], [t.experiment for t in padded])
    dataset, normalize = build.load(first.config, first.experiment)
    train, test = parallel.to_device(dataset, trials.everywhere(mesh))
    programs = trials.make_programs(first.config, first.experiment, normalize, mesh, batched)
    state = programs.init(block)
    for _ in range(2):
        orders = programs.order(state)
        state, metrics = programs.train(
            state, block, train, orders, first.experiment.steps_per_epoch
        )
    return jax.device_get((state, metrics, programs.evaluate(state, test)))


def run_alone(trial):
    """The same epochs by the program of `experiments.train`."""
    config, experiment = trial.config, trial.experiment
    dataset, normalize = build.load(config, experiment)
    alone = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    train, test = parallel.to_device(dataset, alone)
    train_step, eval_step = build.make_steps(config, experiment, normalize)
    train_steps = jax.jit(
        parallel.training(
            train_step, batch_size=config.batch_size, steps_per_epoch=experiment.steps_per_epoch
        ),
        donate_argnums=0,
    )
    order = jax.jit(
        parallel.ordering(
            num_examples=experiment.dataset.num_train, steps_per_epoch=experiment.steps_per_epoch
        )
    )
    init = partial(
        step.init_state,
        model=experiment.model,
        optimizer=experiment.optimizer,
        image_shape=experiment.dataset.image_shape,
    )
    state = jax.jit(init)(jax.random.key(config.seed))
    for _ in range(2):
        state, metrics, _ = train_steps(state, train, order(state), experiment.steps_per_epoch)
    evaluate = jax.jit(parallel.evaluation(eval_step, batch_size=config.eval_batch_size))
    return jax.device_get((state, metrics, evaluate(state, test)))


@pytest.mark.parametrize("batched", [trials.one_after_another, trials.side_by_side])
def test_every_trial_equals_its_run_alone_and_all_are_traced_once(monkeypatch, batched):
    """Also beside one that diverges, which the others do not feel."""
    traces = 0
    train_step = step.train_step

    def counted(*args, **kwargs):
        nonlocal traces
        traces += 1
        return train_step(*args, **kwargs)

    block_trials = trials_of()
    assert len({trials.program_of(trial.config) for trial in block_trials}) == 1
    with monkeypatch.context() as patched:
        patched.setattr(step, "train_step", counted)
        state, train, test = run_block(block_trials, batched)
    assert traces == 1
    for index in range(0, len(block_trials), 2):
        trial = block_trials[index]
        alone_state, alone_train, alone_test = run_alone(trial)
        for ours, theirs in ((train, alone_train), (test, alone_test)):
            assert ours.accuracy.total[index] == theirs.accuracy.total
            np.testing.assert_allclose(ours.loss.total[index], theirs.loss.total, rtol=1e-5)
        jax.tree.map(
            lambda ours, theirs, i=index: np.testing.assert_allclose(
                ours[i], theirs, rtol=1e-4, atol=1e-6
            ),
            state.params,
            alone_state.params,
        )
    hot = [index for index, trial in enumerate(block_trials) if trial.setting == "hot"]
    losses = test.loss.total[: len(block_trials)]
    assert list(np.flatnonzero(~np.isfinite(losses))) == hot


def test_a_cpu_runs_trials_one_after_another_and_an_accelerator_side_by_side():
    assert trials.batched_on("cpu") is trials.one_after_another
    assert trials.batched_on("gpu") is trials.batched_on("tpu") is trials.side_by_side


def test_trials_of_another_seed_differ_in_parameters_and_in_batches():
    state, train, _ = run_block(trials_of()[:2])
    assert train.loss.total[0] != train.loss.total[1]
    kernels = state.params["head"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])


@pytest.mark.parametrize(("share", "size"), [(1.0, 8), (0.6, 4), (1e-6, 2)])
def test_a_block_is_as_large_as_the_memory_allows(monkeypatch, share, size):
    block_trials = trials_of()[:8]
    first = block_trials[0]
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((2,), ("trials",), auto, devices=jax.devices()[:2])
    block = trials.make_block(
        [t.config for t in block_trials], [t.experiment for t in block_trials]
    )
    dataset, normalize = build.load(first.config, first.experiment)
    train, _ = parallel.to_device(dataset, trials.everywhere(mesh))
    programs = trials.make_programs(
        first.config, first.experiment, normalize, mesh, trials.one_after_another
    )
    state = jax.eval_shape(programs.init, block)
    orders = jax.eval_shape(programs.order, state)
    lowered = programs.train.lower(state, block, train, orders, 1)
    analysis = lowered.compile().memory_analysis()
    needed = (
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes
        - analysis.alias_size_in_bytes
    )
    assert needed > dataset.train_images.nbytes
    monkeypatch.setattr(trials, "memory_share", lambda: share * needed)
    assert trials.block_size_that_fits(programs, block, train, num_devices=2) == size
