"""Trials in one program: each equals the same run alone, whatever its schedule."""

import dataclasses
import functools
import os
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.sweeps import digits
from experiments.build.sweeps import read_sweep
from experiments.program import assemble, parallel
from experiments.sweeping import plan, trials
from experiments.tasks.classification import Metrics
from tests.experiments.build.test_gan import small_experiment as small_gan

SETTINGS = (
    {"name": "constant", "schedule.name": "constant", "schedule.peak_value": 0.05},
    {"name": "log", "schedule.name": "cyclical_log_annealing", "schedule.init_decay_epochs": 1.0},
    {"name": "cosine", "schedule.name": "cosine", "optimizer.weight_decay": 0.02},
    {"name": "hot", "schedule.name": "constant", "optimizer.weight_decay": 1e9},
    {"name": "sig+", "schedule.name": "sig+", "schedule.warmup_epochs": 0.5},
)


def final_trials(settings=SETTINGS, **averaging):
    config = digits.get_config()
    config.base.averaging.update(averaging)
    config.grid = ()
    config.seeds = (0, 7)
    config.settings = settings
    config.base.epochs = 2.0
    config.base.batch_size = 256
    config.base.model.width_multiplier = 0.02
    sweep = read_sweep(config)
    return plan.final_trials(sweep, {name: {} for name in sweep.settings})


def run_block(block_trials, batched=trials.one_after_another):
    """Trains all trials for two epochs; returns their state, and metrics of both splits."""
    experiments = [trial.experiment for trial in block_trials]
    first = experiments[0]
    mesh = trials.make_mesh()
    padding = [experiments[-1]] * (-len(experiments) % mesh.size)
    block = trials.make_block([*experiments, *padding])
    train, test = (
        parallel.to_devices(split, trials.replicated(mesh)) for split in first.task.load()
    )
    programs = trials.make_programs(first, mesh, batched)
    state = programs.init(block)
    for _ in range(2):
        orders = programs.order(state)
        state, metrics = programs.train(state, block, train, orders, first.steps_per_epoch)
    return jax.device_get((state, metrics, programs.evaluate(state, test)))


def programs_alone(experiment):
    """Returns the programs of `experiments.train`, on one device."""
    strategy = parallel.make_strategy(experiment.strategy, jax.devices()[:1])
    return strategy, assemble.compiled(
        experiment.task,
        experiment.optimizer,
        experiment.batches,
        strategy,
        averaging=experiment.averaging,
    )


@functools.cache
def first_programs():
    """Returns the programs of the first of the final trials."""
    return programs_alone(final_trials()[0].experiment)[1]


@functools.cache
def run_alone(index):
    """Trains one of the final trials; only its training depends on its schedule and its decay."""
    experiment = final_trials()[index].experiment
    strategy, programs = programs_alone(experiment)
    return train_with(experiment, strategy, first_programs()._replace(train=programs.train))


def train_alone(experiment):
    return train_with(experiment, *programs_alone(experiment))


def train_with(experiment, strategy, programs):
    train, test = (
        parallel.to_devices(split, strategy.replicated) for split in experiment.task.load()
    )
    state = programs.init(np.asarray(jax.random.key_data(jax.random.key(experiment.seed))))
    for _ in range(2):
        order = programs.order(state)
        state, metrics, _ = programs.train(state, train, order, experiment.steps_per_epoch)
    return jax.device_get((state, metrics, programs.evaluate(state, test)))


@pytest.mark.parametrize("batched", [trials.one_after_another, trials.side_by_side])
def test_trial_equals_its_run_alone_and_all_share_one_trace(batched):
    """This holds for the neighbors of a trial that diverges, too."""
    traces = 0
    block_trials = final_trials()
    task = block_trials[0].experiment.task

    def counted(*args, **kwargs):
        nonlocal traces
        traces += 1
        return task.train_step(*args, **kwargs)

    assert len({trials.program_of(trial.experiment) for trial in block_trials}) == 1
    counting = dataclasses.replace(
        block_trials[0].experiment, task=task._replace(train_step=counted)
    )
    counted_trials = [block_trials[0]._replace(experiment=counting), *block_trials[1:]]
    state, train, test = run_block(counted_trials, batched)
    assert traces == 1
    for index in range(0, len(block_trials), 2):
        alone_state, alone_train, alone_test = run_alone(index)
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


@pytest.mark.slow
def test_averages_of_a_trial_equal_those_of_its_run_alone():
    """The cycles of the trials end at different steps, and in different numbers."""
    cycles = {"schedule.name": "cyclical_cosine", "schedule.restart_interval_epochs": 0.6}
    block_trials = final_trials(
        (
            {"name": "three", "schedule.init_decay_epochs": 0.6, **cycles},
            {"name": "one", "schedule.init_decay_epochs": 1.6, **cycles},
        ),
        ema_decay=0.8,
        swa_start_epoch=1,
        cycle_snapshots=True,
    )
    ends = [trial.experiment.averaging.cycle_ends for trial in block_trials]
    assert ends == [(3, 6, 9), (3, 6, 9), (8,), (8,)]
    state, *_ = run_block(block_trials)
    for index in (0, 3):
        alone, *_ = train_alone(block_trials[index].experiment)
        jax.tree.map(
            lambda ours, theirs, i=index: np.testing.assert_allclose(
                ours[i], theirs, rtol=1e-4, atol=1e-6
            ),
            state.averages,
            alone.averages,
        )


def test_trials_share_a_program_if_only_schedule_seed_and_weight_decay_differ():
    final = final_trials(
        (
            {"name": "a", "schedule.name": "constant"},
            {"name": "b", "schedule.name": "rex", "schedule.peak_value": 0.3},
            {"name": "c", "optimizer.weight_decay": 0.1},
            {"name": "d", "optimizer.momentum": 0.5},
        )
    )
    programs = {trial.setting: trials.program_of(trial.experiment) for trial in final}
    assert len({trials.program_of(trial.experiment) for trial in final}) == 2
    assert programs["a"] == programs["b"] == programs["c"] != programs["d"]


def test_cpu_runs_trials_one_after_another_and_an_accelerator_side_by_side():
    assert trials.batched_on("cpu") is trials.one_after_another
    assert trials.batched_on("gpu") is trials.batched_on("tpu") is trials.side_by_side


def test_option_of_a_gpu_is_known_to_xla():
    """An unknown option would be an error."""
    for options in trials.OPTIONS.values():
        assert jax.jit(jnp.sin, compiler_options=dict(options))(0.0) == 0


def test_trials_with_different_seeds_have_other_parameters_and_batches():
    state, train, _ = run_block(final_trials()[:2])
    assert train.loss.total[0] != train.loss.total[1]
    kernels = state.params["head"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])


class FakeTrain:
    """A training program with a known memory analysis."""

    def __init__(self, **num_bytes):
        zeros = {f"{kind}_size_in_bytes": 0 for kind in ("argument", "output", "temp", "alias")}
        sizes = {f"{kind}_size_in_bytes": number for kind, number in num_bytes.items()}
        self.analysis = SimpleNamespace(**{**zeros, **sizes})

    def lower(self, *arguments):
        return self

    def compile(self):
        return self

    def memory_analysis(self):
        return self.analysis


def fits(monkeypatch, memory, *, num_trials=8, num_devices=2, **num_bytes):
    """Returns how many trials fit into some bytes of memory per device."""
    programs = trials.TrialPrograms(
        init=lambda block: block,
        order=lambda state: state,
        train=FakeTrain(**num_bytes),
        evaluate=None,
        statistics=None,
    )
    block = trials.Block(*3 * [np.zeros(num_trials)])
    monkeypatch.setattr(trials, "memory_share", lambda: memory)
    return trials.block_size_that_fits(programs, block, {}, num_devices=num_devices)


@pytest.mark.parametrize(
    ("memory", "size"),
    [(10_000, 8), (1000, 8), (999, 6), (750, 6), (749, 4), (500, 4), (499, 2), (250, 2), (1, 2)],
)
def test_block_is_as_large_as_the_memory_allows(monkeypatch, memory, size):
    """Eight trials need 1,000 bytes; two devices share each block, so it has 2, 4, 6, or 8."""
    assert fits(monkeypatch, memory, temp=1000) == size


def test_donated_arguments_count_once(monkeypatch):
    memory = {"argument": 400, "output": 400, "temp": 600, "alias": 400}
    assert fits(monkeypatch, 1000, **memory) == 8
    assert fits(monkeypatch, 500, **memory) == 4
    for kind in ("argument", "output", "temp"):
        assert fits(monkeypatch, 1000, **{**memory, kind: 2 * memory[kind]}) < 8


def test_real_program_needs_memory_for_the_data_and_every_trial(monkeypatch):
    experiments = [trial.experiment for trial in final_trials()[:8]]
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((2,), ("trials",), auto, devices=jax.devices()[:2])
    data = experiments[0].task.load()
    train = parallel.to_devices(data.train, trials.replicated(mesh))
    programs = trials.make_programs(experiments[0], mesh, trials.one_after_another)
    block = trials.make_block(experiments)
    sizes = []
    for memory in (1.0, data.train["image"].nbytes, 1e9):
        monkeypatch.setattr(trials, "memory_share", lambda memory=memory: memory)
        sizes.append(trials.block_size_that_fits(programs, block, train, num_devices=2))
    assert sizes[0] == 2
    assert 2 <= sizes[1] < 8
    assert sizes[2] == 8


def test_memory_share_is_a_part_of_the_memory_of_a_device(monkeypatch):
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 1000})
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert trials.memory_share() == 800
    device.memory_stats = lambda: None
    sizes = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", sizes.get)
    monkeypatch.setattr(jax, "local_device_count", lambda: 8)
    assert trials.memory_share() == 4_096_000 / 2 / 8


@pytest.mark.slow
def test_gan_in_a_table_equals_its_run_alone():
    """Its metrics are computed from sums over all images of a trial."""
    fields = {"batch_size": 256, "optimizer.momentum": 0.0, "epochs": 2.0}
    block_trials = [
        plan.Trial("final", name, {}, small_gan(**fields, **{"seed": seed, "schedule.name": name}))
        for name, seed in (("constant", 0), ("cosine", 7))
    ]
    state, train, test = run_block(block_trials)
    names = ("loss", "frechet_distance", "kid")
    means = trials.means({"train": [train], "test": [test]})
    for index, trial in enumerate(block_trials):
        alone_state, alone_train, alone_test = train_alone(trial.experiment)
        alone = {"train": alone_train.compute(), "test": alone_test.compute()}
        for split, name in (("train", "loss"), *(("test", name) for name in names)):
            np.testing.assert_allclose(
                means[f"{split}_{name}"][index], alone[split][name], rtol=1e-3, atol=1e-5
            )
        jax.tree.map(
            lambda ours, theirs, i=index: np.testing.assert_allclose(
                ours[i], theirs, rtol=1e-3, atol=1e-5
            ),
            state.params,
            alone_state.params,
        )


@jax.vmap
def metrics_of(losses):
    """Returns the metrics of each trial; the first example of a dispatch is right."""
    num_examples = len(losses)
    return Metrics.single_from_model_output(
        loss=losses, logits=jnp.eye(num_examples), labels=jnp.zeros(num_examples, int)
    )


def test_means_weight_every_example_equally():
    """The first dispatch has two examples per trial, and the second has one."""
    dispatches = jnp.array([[1.0, 3.0], [10.0, 30.0]]), jnp.array([[8.0], [50.0]])
    parts = [jax.device_get(metrics_of(losses)) for losses in dispatches]
    assert trials.means({"train": parts}) == {
        "train_loss": [4.0, 30.0],
        "train_accuracy": pytest.approx([2 / 3, 2 / 3]),
    }
