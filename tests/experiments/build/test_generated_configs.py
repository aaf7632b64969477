"""Generated configs: each is refused in one sentence or can be trained."""

import json
import math

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import base, quickstart
from experiments.build.experiment import build
from experiments.build.language_model import LANGUAGE_MODELS, TOKENS
from experiments.build.loading import LOADING
from experiments.build.models import ATTENTION, DTYPES, MODELS
from experiments.build.optimizers import MASKS, OPTIMIZERS, WEIGHT_DECAY_MODES
from experiments.build.schedules import SCHEDULES
from experiments.build.tasks import MATMUL_PRECISIONS, TASKS
from experiments.data.preprocess import STEPS
from experiments.errors import UserError
from experiments.models import dcgan
from experiments.models.layers import VARIANTS
from experiments.program import assemble, parallel
from experiments.tasks import adversarial
from experiments.tasks.losses import LOSSES
from loganneal_jax import cyclical, phases
from tests.experiments.build.edits import MISSING, assert_one_sentence, change, leaves
from tests.experiments.models.networks import use_few_blocks

# The names that each field accepts, from the module that owns them.
CHOICES = {
    "task.name": tuple(TASKS),
    "data.loading": LOADING,
    "data.tokens": tuple(TOKENS),
    "model.name": (*MODELS, *LANGUAGE_MODELS),
    "model.variant": tuple(VARIANTS),
    "model.dtype": tuple(DTYPES),
    "model.matmul_precision": tuple(MATMUL_PRECISIONS),
    "model.attention.name": tuple(ATTENTION),
    "optimizer.name": tuple(OPTIMIZERS),
    "optimizer.weight_decay_mode": tuple(WEIGHT_DECAY_MODES),
    "optimizer.weight_decay_mask": tuple(MASKS),
    "schedule.name": tuple(SCHEDULES),
    "schedule.variant": tuple(cyclical.VARIANTS),
    "schedule.cooldown": tuple(phases.COOLDOWNS),
    "loss.name": tuple(LOSSES),
    "gan.loss": tuple(adversarial.LOSSES),
    "gan.upsampling": tuple(dcgan.UPSAMPLING),
    "parallel.strategy": tuple(parallel.STRATEGIES),
}
# Plausible values of every field, each on its own.
PLAUSIBLE = {
    "task.name": st.sampled_from(CHOICES["task.name"]),
    "init_from": st.none() | st.text(),
    "seed": st.integers(0, 2**32 - 1),
    "epochs": st.floats(0.05, 1e6) | st.integers(1, 100),
    "batch_size": st.integers(1, 1437),
    "eval_batch_size": st.integers(1, 65536),
    "log_every_steps": st.integers(1, 10**6),
    "linear_regression.dimensions": st.integers(1, 1000),
    "linear_regression.exponent": st.floats(0, 3) | st.floats(0, 1e6),
    "linear_regression.noise": st.floats(0, 1) | st.floats(0, 1e6),
    "data.name": st.just("digits"),
    "data.data_dir": st.none() | st.text(),
    "data.image_size": st.none() | st.sampled_from([1, 4, 8, 16, 32, 64, 2048]),
    "data.loading": st.sampled_from(CHOICES["data.loading"]),
    "data.memory_share": st.floats(0, 1, exclude_min=True),
    "data.workers": st.none() | st.integers(0, 256),
    "data.max_damaged": st.integers(0, 10**9),
    "data.validation_examples": st.integers(0, 1436),
    "data.preprocess": st.permutations(list(STEPS)).flatmap(
        lambda steps: st.integers(0, 5).map(lambda count: tuple(steps[:count]))
    ),
    "data.zca_epsilon": st.floats(1e-30, 1e30),
    "data.augment": st.booleans(),
    "data.crop_padding": st.integers(0, 20),
    "data.context_length": st.integers(1, 300),
    "data.tokens": st.sampled_from(CHOICES["data.tokens"]),
    # Large networks take long to trace, so small ones are more likely.
    "model.name": st.sampled_from(["nn2", "nn3", "lenet4", "resnet10"] * 9 + [*MODELS]),
    "model.width_multiplier": st.sampled_from([0.01, 0.1, 0.25, 1.0, 64]),
    "model.variant": st.sampled_from(CHOICES["model.variant"]),
    "model.dtype": st.sampled_from(CHOICES["model.dtype"]),
    "model.matmul_precision": st.sampled_from(CHOICES["model.matmul_precision"]),
    "model.batch_norm": st.booleans(),
    "model.auxiliary_heads": st.booleans(),
    "model.dropout_rate": st.none() | st.sampled_from([0.0, 0.5, 0.999]),
    "model.num_layers": st.integers(1, 3),
    "model.num_heads": st.sampled_from([1, 2, 3, 4]),
    "model.width": st.sampled_from([4, 8, 32]),
    "model.tied_embeddings": st.booleans(),
    "model.attention.name": st.sampled_from(CHOICES["model.attention.name"]),
    "model.attention.patch_size": st.sampled_from([1, 2, 4, 8, 16]),
    "model.attention.width": st.sampled_from([4, 8, 32, 64, 16384]),
    "model.attention.num_heads": st.sampled_from([1, 2, 4, 8]),
    "model.attention.mlp_width": st.sampled_from([1, 16, 64, 16384]),
    "optimizer.name": st.sampled_from(CHOICES["optimizer.name"]),
    "optimizer.momentum": st.floats(0, 1, exclude_max=True),
    "optimizer.nesterov": st.booleans(),
    "optimizer.beta1": st.none() | st.floats(0, 1, exclude_max=True),
    "optimizer.beta2": st.none() | st.floats(0, 1, exclude_max=True),
    "optimizer.beta3": st.none() | st.floats(0, 1, exclude_max=True),
    "optimizer.epsilon": st.none() | st.floats(0, 1),
    "optimizer.consistent_rms": st.none() | st.floats(0, 1, exclude_min=True),
    "optimizer.weight_decay": st.floats(0, 1) | st.floats(0, 1e30),
    "optimizer.weight_decay_mode": st.none()
    | st.sampled_from(CHOICES["optimizer.weight_decay_mode"]),
    "optimizer.weight_decay_mask": st.sampled_from(CHOICES["optimizer.weight_decay_mask"]),
    "optimizer.clip_norm": st.none() | st.floats(0, 1e30, exclude_min=True),
    "schedule.name": st.sampled_from(CHOICES["schedule.name"]),
    "schedule.peak_value": st.floats(0, 1) | st.floats(0, 1e6),
    "schedule.end_value": st.floats(0, 0.1) | st.floats(0, 1e6),
    "schedule.total_epochs": st.none() | st.floats(0.05, 1e6),
    "schedule.init_decay_epochs": st.floats(0.1, 100) | st.floats(0.1, 1e9),
    "schedule.restart_interval_epochs": st.none() | st.floats(0.1, 100) | st.floats(0.1, 1e9),
    "schedule.restart_multiplier": st.floats(0.5, 4) | st.floats(0, 1e30, exclude_min=True),
    "schedule.restart_value": st.none() | st.floats(0, 1) | st.floats(0, 1e6),
    "schedule.restart_decay": st.floats(0, 1, exclude_min=True),
    "schedule.warmup_epochs": st.floats(0, 1) | st.floats(0, 1e9),
    "schedule.warmup_init_value": st.floats(0, 1) | st.floats(0, 1e6),
    "schedule.variant": st.sampled_from(CHOICES["schedule.variant"]),
    "schedule.base": st.none() | st.floats(0, 10, exclude_min=True) | st.floats(1, 1e30),
    "schedule.first_step": st.floats(1e-6, 10) | st.floats(1e-6, 1e30),
    "schedule.slope": st.floats(0, 10, exclude_min=True) | st.floats(1, 1e30),
    "schedule.boundaries": st.lists(st.floats(0.01, 1), max_size=4, unique=True)
    .map(sorted)
    .map(tuple),
    "schedule.decay_rate": st.floats(0, 1, exclude_min=True),
    "schedule.cooldown": st.sampled_from(CHOICES["schedule.cooldown"]),
    "schedule.cooldown_fraction": st.floats(0, 1, exclude_min=True),
    "schedule.half_cycle_epochs": st.floats(0.1, 100) | st.floats(0.1, 1e9),
    "schedule.triangle_decay_rate": st.floats(0, 1, exclude_min=True),
    "loss.name": st.sampled_from(CHOICES["loss.name"]),
    "loss.label_smoothing": st.floats(0, 1, exclude_max=True),
    "gan.loss": st.sampled_from(CHOICES["gan.loss"]),
    "gan.gradient_penalty": st.floats(0, 1e30),
    "gan.latent_size": st.integers(1, 16384),
    "gan.discriminator_steps": st.sampled_from([1, 2, 64, 16384]),
    "gan.generator_rate": st.floats(0, 10, exclude_min=True),
    "gan.discriminator_rate": st.floats(0, 10, exclude_min=True),
    "gan.spectral_norm": st.booleans(),
    "gan.upsampling": st.sampled_from(CHOICES["gan.upsampling"]),
    "parallel.strategy": st.sampled_from(CHOICES["parallel.strategy"]),
    "parallel.sync_batch_norm": st.booleans(),
    "parallel.accumulate_steps": st.sampled_from([1, 1, 1, 2, 4, 65536]),
    "averaging.ema_decay": st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
    "averaging.swa_start_epoch": st.none() | st.integers(1, 100),
    "averaging.cycle_snapshots": st.sampled_from([None, False, True]),
    "guard.loss_threshold": st.none() | st.floats(0, 1e30, exclude_min=True),
    "guard.grace_epochs": st.floats(0, 1e6) | st.floats(0, 1e9),
    "guard.max_rollbacks": st.integers(0, 1000),
    "guard.peak_factor": st.floats(0, 1, exclude_min=True),
    "guard.extra_warmup_epochs": st.floats(0, 10),
    "checkpoint.every_epochs": st.integers(1, 10**6),
    "checkpoint.max_to_keep": st.integers(1, 10**6),
    "checkpoint.keep_best": st.booleans(),
}
NAMES = st.sampled_from(sorted(PLAUSIBLE))
# One field of each section, so that values without effect are reset and most configs are accepted.
GIVEN = (
    *("data.name", "model.name", "optimizer.name", "schedule.name", "loss.name"),
    *("guard.max_rollbacks", "parallel.strategy"),
)
SECTIONS = [
    "data",
    "model",
    "model.attention",
    "optimizer",
    "schedule",
    "loss",
    "averaging",
    "parallel",
    "guard",
]
EXTREMES = [
    *(sign * size for size in (1e-320, 1e-45, 1e-30, 1e30, 1e39, 1e308) for sign in (1, -1)),
    *(0, -0.0, -1, 1, 2, 1000, 2**31 - 1, 2**31, 2**32, 2**63, 10**400, -(10**400)),
    *(math.nan, math.inf, -math.inf),
]
ANYTHING = (
    st.sampled_from(EXTREMES)
    | st.integers()
    | st.floats()
    | st.sampled_from([None, True, False, "", "a\nb", (), (0.5,), ("zca", "zca"), {}, {"name": 1}])
    | st.sampled_from([1j, b"sgd", np.float32(0.1), np.ones((2, 2)), ConfigDict, object])
    | st.text()
    | st.sampled_from(sorted({word for words in CHOICES.values() for word in words}))
    | st.sampled_from(["no_such_module:x", "math:no_such_name", ":x", "math:", "a:b:c"])
    | st.lists(st.floats() | st.sampled_from(list(STEPS)), max_size=3).map(tuple)
)
LIKELY = NAMES.flatmap(lambda name: st.tuples(st.just(name), PLAUSIBLE[name]))
UNLIKELY = (
    st.tuples(NAMES, ANYTHING)
    | st.tuples(NAMES, st.sampled_from(EXTREMES))
    | st.tuples(NAMES | st.sampled_from(SECTIONS), st.just(MISSING) | ANYTHING)
    | st.tuples(NAMES.map(lambda name: f"{name}s"), ANYTHING)
)


def related(names, lead):
    """Changes of a few fields, and always of the field `lead`, which decides what they mean."""
    likely = st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), PLAUSIBLE[name]))
    return st.tuples(st.lists(likely, max_size=4), st.tuples(st.just(lead), PLAUSIBLE[lead])).map(
        lambda parts: [*parts[0], parts[1]]
    )


LANGUAGE_MODEL = [
    *(("task.name", "language_model"), ("data.name", "markov"), ("model.name", "transformer")),
    *(("model.attention.name", "beside"), ("model.attention.width", 64)),
]
OF_LANGUAGE_MODELS = ["data.context_length", "data.tokens", "data.validation_examples"]
OF_LANGUAGE_MODELS += [f"model.{name}" for name in ("num_layers", "num_heads", "width", "dtype")]
CHANGES = (
    related(OF_LANGUAGE_MODELS, "model.tied_embeddings").map(lambda some: some + LANGUAGE_MODEL)
    | related([name for name in PLAUSIBLE if name.startswith("schedule.")], "schedule.name")
    | related(
        [name for name in PLAUSIBLE if name.startswith(("model.", "data.", "optim"))], "model.name"
    )
    | st.lists(LIKELY, min_size=1, max_size=8)
    | st.lists(LIKELY | UNLIKELY, min_size=1, max_size=4)
    | st.lists(UNLIKELY, min_size=1, max_size=2)
)


def test_every_field_is_generated():
    assert set(PLAUSIBLE) == set(leaves(base.get_config()))


def test_every_string_field_has_choices_or_names_a_data_set_or_a_directory():
    strings = {path for path, kind in leaves(base.get_config()).items() if kind is str}
    assert strings == {*CHOICES, "data.name", "data.data_dir", "init_from"}


def changed(changes):
    config = quickstart.get_config()
    # Change the deepest fields first, because a section may be deleted or replaced by a value.
    for path, value in sorted(changes, key=lambda item: -item[0].count(".")):
        change(config, path, value)
    return config


def experiment_of(config, seen):
    """Builds a config, checks that it can be trained, and returns None if it is refused."""
    try:
        experiment = build(config, GIVEN)
    except UserError as error:
        assert_one_sentence(error)
        return None
    last = experiment.num_steps - 1
    # Compiling thousands of schedules would take minutes.
    with jax.disable_jit():
        rates = np.asarray(experiment.schedule(np.array([0, last // 2, last], np.int32)))
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    # The program depends on the optimizer's names, but not on its numbers.
    names = {name: value for name, value in config.optimizer.items() if isinstance(value, str)}
    program = json.dumps(
        [
            *(config.model.to_dict(), names, config.optimizer.clip_norm is None),
            *(experiment.task.data, config.data.image_size),
        ]
    )
    if program not in seen:
        jax.eval_shape(
            lambda key: experiment.task.init(key, experiment.optimizer), jax.random.key(0)
        )
        seen.add(program)
    return experiment


def accepted_of_generated(count):
    """Builds generated configs; returns the accepted ones with their experiments."""
    accepted, refused, seen = [], 0, set()

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(changes=CHANGES)
    def each(changes):
        nonlocal refused
        config = changed(changes)
        experiment = experiment_of(config, seen)
        if experiment is None:
            refused += 1
        else:
            accepted.append((config, experiment))

    each()
    assert len(accepted) > count / 4
    assert refused > count / 4
    return accepted


def test_generated_config_is_refused_in_one_sentence_or_can_be_trained(monkeypatch):
    use_few_blocks(monkeypatch)
    accepted_of_generated(150)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_any_of_many_generated_configs_is_refused_or_can_be_trained(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    use_few_blocks(monkeypatch)
    # A few small networks take a step.
    quick = [
        (config, experiment)
        for config, experiment in accepted_of_generated(2000)
        if config.model.name in ("nn2", "nn3", "lenet4")
        and config.model.width_multiplier <= 1
        and config.model.attention.width <= 64
        and (config.data.image_size or 8) <= 16
    ]
    assert len(quick) > 20
    for config, experiment in quick[:: len(quick) // 10][:10]:
        assert_takes_a_step(config, experiment)


def assert_takes_a_step(config, experiment):
    strategy = parallel.make_strategy(experiment.strategy, jax.devices()[:1])
    programs = assemble.compiled(
        experiment.task, experiment.optimizer, experiment.batches, strategy
    )
    state = programs.init(np.asarray(jax.random.key_data(jax.random.key(config.seed))))
    train = parallel.to_devices(experiment.task.load().train, strategy.replicated)
    state, metrics, _ = programs.train(state, train, programs.order(state), 1)
    assert state.step == 1
    assert metrics.compute()["loss"].shape == ()
