"""Any config is either refused in one sentence, before anything is imported, or it trains."""

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import base, quickstart
from experiments import build, fields, optimizers, parallel, ranges, step
from experiments.architectures import ATTENTION, BACKBONES, DTYPES
from experiments.data.preprocess import STEPS
from experiments.errors import UserError
from experiments.losses import LOSSES
from experiments.models.layers import VARIANTS
from experiments.schedules import SCHEDULES
from loganneal_jax import phases, schedules

ROOT = Path(__file__).parents[1]
MISSING = object()


def change(config, path, value):
    """Sets a field to anything, or takes it away."""
    *sections, name = path.split(".")
    with config.ignore_type():
        for section in sections:
            config = config[section]
        if name in config:
            del config[name]  # or the value would be cast to the type of the one before
        if value is not MISSING:
            config[name] = value


def assert_one_sentence(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


def test_a_config_is_checked_without_importing_what_takes_seconds():
    script = (
        "import sys\n"
        "from configs import quickstart\n"
        "from experiments import fields\n"
        "fields.check(quickstart.get_config())\n"
        "slow = {'jax', 'flax', 'optax', 'orbax', 'clu', 'numpy', 'tensorflow',\n"
        "        'tensorflow_datasets', 'matplotlib', 'pandas', 'sklearn'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("model.name", BACKBONES),
        ("model.variant", VARIANTS),
        ("model.dtype", DTYPES),
        ("model.matmul_precision", build.MATMUL_PRECISIONS),
        ("model.attention.name", ATTENTION),
        ("optimizer.name", optimizers.METHODS),
        ("optimizer.decay", optimizers.DECAYS),
        ("optimizer.decayed", optimizers.DECAYED),
        ("schedule.name", SCHEDULES),
        ("schedule.variant", schedules._VARIANTS),
        ("schedule.cooldown", phases._COOLDOWNS),
        ("loss.name", LOSSES),
        ("parallel.strategy", parallel.STRATEGIES),
    ],
)
def test_the_choices_are_what_there_is(path, known):
    assert fields.CHOICES[path] == tuple(known)


def test_the_choices_are_all_there_are():
    assert len(fields.CHOICES) == 13
    assert tuple(STEPS) == fields.PREPROCESS


def test_every_string_is_a_choice_or_names_a_data_set():
    assert {path for path, default in leaves(base.get_config()).items() if default is str} == {
        *fields.CHOICES,
        "data.name",
        "data.data_dir",
    }


def leaves(config, prefix=""):
    """Dotted field -> type, of every field that is no section."""
    types = {}
    for name in config:
        if isinstance(config[name], ConfigDict):
            types |= leaves(config[name], f"{prefix}{name}.")
        else:
            types[prefix + name] = config.get_type(name)
    return types


HUGE = 10**5000  # too many digits for Python to print

BAD = [
    ("epoch", 3, "unknown field 'epoch': the config of a run has batch_size, checkpoint, data, "),
    ("schedule.slop", 3.0, "unknown field 'schedule.slop': schedule has base, boundaries, .*slope"),
    ("model.attention.heads", 3, "'model.attention.heads': model.attention has mlp_width, name, "),
    ("two\nlines", 3, r"unknown field 'two\\nlines': the config of a run has "),
    ("seed", MISSING, "the config has no field seed; configs/base.py has all fields"),
    ("schedule.slope", MISSING, "the config has no field schedule.slope; configs/base.py"),
    ("model.attention", MISSING, "the config has no field model.attention; configs/base.py"),
    ("guard", MISSING, "the config has no field guard; configs/base.py"),
    ("schedule", MISSING, "the config has no section schedule: it is none of a run"),
    ("schedule", "cosine", "schedule='cosine' is a value; it must be a section with .* slope"),
    ("model.attention", None, "model.attention=None is a value; it must be a section with .*width"),
    ("seed", ConfigDict({"a": 1}), "seed=.*a.*1.* has the wrong type, a section; .* whole number"),
    ("data.preprocess", ConfigDict(), "data.preprocess=.* a section; it must be a tuple of str"),
    ("seed", "0", "seed='0' has the wrong type, str; it must be a whole number"),
    ("seed", 0.0, "seed=0.0 has the wrong type, float; it must be a whole number"),
    ("seed", None, "seed=None has the wrong type, NoneType; it must be a whole number"),
    ("seed", True, "seed=True has the wrong type, bool; it must be a whole number"),
    ("seed", np.ones((2, 2)), r"seed=array\(\[\[1., 1.\], \[1., 1.\]\]\) has the wrong type, nda"),
    ("data.image_size", "a", "image_size='a' has the wrong type, str; it must be a whole .* None"),
    ("data.augment", 1, "data.augment=1 has the wrong type, int; it must be True or False"),
    ("data.augment", None, "data.augment=None has the wrong type, NoneType; .* True or False"),
    ("epochs", True, "epochs=True has the wrong type, bool; it must be a number"),
    ("epochs", 1j, "epochs=1j has the wrong type, complex; it must be a number"),
    ("schedule.base", "e", "schedule.base='e' has the wrong type, str; it must be a number or No"),
    ("model.name", 18, "model.name=18 has the wrong type, int; it must be a string"),
    ("model.name", None, "model.name=None has the wrong type, NoneType; it must be a string"),
    ("optimizer.decay", 1, "decay=1 has the wrong type, int; it must be a string or None"),
    ("data.preprocess", "zca", "preprocess='zca' has the wrong type, str; .* a tuple of strings"),
    ("data.preprocess", (1,), r"preprocess=\(1,\) has the wrong type, tuple; .* tuple of strings"),
    ("data.preprocess", (HUGE,), "preprocess=tuple has the wrong type, tuple; .* tuple of strin"),
    ("data.preprocess", None, "preprocess=None has the wrong type, NoneType; .* tuple of strings"),
    ("schedule.boundaries", 0.5, "boundaries=0.5 has the wrong type, float; .* tuple of numbers"),
    ("schedule.boundaries", ("a",), r"boundaries=\('a',\) has the wrong type, tuple; .*numbers"),
    ("schedule.boundaries", (True,), r"boundaries=\(True,\) has the wrong type, tuple; .*numbers"),
    ("schedule.boundaries", (0.7, 0.5), r"boundaries=\(0.7, 0.5\) .* in increasing order"),
    ("schedule.boundaries", (0.5, 1.5), r"boundaries=\(0.5, 1.5\) .* at most 1"),
    ("schedule.boundaries", (0.0,), r"boundaries=\(0.0,\) .* above 0"),
    ("schedule.boundaries", (math.nan,), r"boundaries=\(nan,\) .* above 0"),
    ("schedule.boundaries", (HUGE,), "boundaries=tuple is out of range; .* at most 1"),
    ("seed", HUGE, "seed=int of 16610 bits is out of range; it must be at least 0 and below 4294"),
    ("epochs", -HUGE, "epochs=int of 16610 bits is out of range; it must be above 0 and at most 1"),
    ("epochs", 1e300, r"epochs=1e\+300 is out of range; it must be above 0 and at most 1000000000"),
    ("batch_size", 10**6, "batch_size=1000000 is out of range; it must be at least 1 and at most"),
    ("data.image_size", 10**6, "image_size=1000000 is out of range; .* at most 4096"),
    ("model.width_multiplier", 1e3, "width_multiplier=1000.0 is out of range; .* at most 64"),
    ("model.width_multiplier", math.nan, "width_multiplier=nan is out of range; .* above 0"),
    ("model.attention.width", 10**6, "width=1000000 is out of range; .* at most 16384"),
    ("schedule.init_value", math.inf, "init_value=inf is out of range; .* at most 1000000"),
    ("schedule.restart_decay", 1.5, "restart_decay=1.5 is out of range; .* at most 1"),
    ("schedule.cooldown_fraction", 1.5, "cooldown_fraction=1.5 is out of range; .* at most 1"),
    ("model.name", "resnet\n18", r"unknown model.name='resnet\\n18'; choose one of nn2, nn3, "),
    ("model.name", "x" * 10**6, "unknown model.name='x{199}...; choose one of nn2, nn3, "),
    ("model.matmul_precision", "fast", "precision='fast'; choose one of default, high, highest"),
    ("schedule.cooldown", "cos", "schedule.cooldown='cos'; choose one of linear, 1-sqrt, cosine"),
    ("data.preprocess", ("zcaa",), "unknown preprocessing step 'zcaa'; choose from .*zca"),
    ("guard.loss_threshold", 0.0, "loss_threshold=0.0 is out of range; it must be above 0"),
    ("guard.grace_epochs", -1.0, "grace_epochs=-1.0 is out of range; it must be at least 0"),
    ("guard.max_rollbacks", 1001, "max_rollbacks=1001 is out of range; .* at most 1000"),
    ("guard.peak_factor", 1.5, "peak_factor=1.5 is out of range; it must be above 0 and at most 1"),
    ("guard.extra_warmup_epochs", -1.0, "extra_warmup_epochs=-1.0 is out of range"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=[message for *_, message in BAD])
def test_a_mistake_is_named_in_one_sentence(path, value, message):
    config = quickstart.get_config()
    change(config, path, value)
    with pytest.raises(UserError, match=message) as error:
        fields.check(config)
    assert_one_sentence(error.value)


@pytest.mark.parametrize("path", ranges.CONFIG)
def test_every_number_has_two_limits(path):
    floats = [math.nan, math.inf, -math.inf] if leaves(base.get_config())[path] is float else []
    for value in (HUGE, -HUGE, *floats):
        config = quickstart.get_config()
        change(config, path, value)
        with pytest.raises(UserError, match=f"{path}=.* is out of range; it must be ") as error:
            fields.check(config)
        assert_one_sentence(error.value)


TOGETHER = [
    (
        {"schedule.warmup_epochs": 9.0, "epochs": 8.0},
        "schedule.warmup_epochs=9.0 is longer than the run, epochs=8.0",
    ),
    (
        {"optimizer.name": "adamw", "optimizer.decay": "coupled"},
        "optimizer.decay='coupled' is adam, not adamw: set optimizer.name=adam",
    ),
    (
        {"model.attention.width": 32, "model.attention.num_heads": 5},
        "model.attention.num_heads=5 does not divide model.attention.width=32",
    ),
    (
        {"schedule.name": "cosine", "schedule.end_value": 0.2},
        "schedule.end_value=0.2 must not be above schedule.init_value=0.1",
    ),
    (
        {"guard.max_rollbacks": 1, "guard.peak_factor": 1.0},
        "guard.max_rollbacks=1 .* would do the same again",
    ),
]


@pytest.mark.parametrize(("changes", "message"), TOGETHER)
def test_fields_that_do_not_go_together_are_named_in_one_sentence(changes, message):
    config = quickstart.get_config()
    for path, value in changes.items():
        change(config, path, value)
    with pytest.raises(UserError, match=message) as error:
        fields.check(config)
    assert_one_sentence(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 20, "schedule.init_value": 0},
        {"data.preprocess": [], "schedule.boundaries": [1]},
        {"data.image_size": None, "model.dropout_rate": None, "optimizer.decay": None},
        {"model.attention.name": "none", "model.attention.num_heads": 5},
        {"schedule.name": "constant", "schedule.end_value": 0.2},
        {"guard.max_rollbacks": 1, "guard.peak_factor": 1.0, "guard.extra_warmup_epochs": 1.0},
    ],
)
def test_what_can_be_used_is_let_pass(changes):
    config = quickstart.get_config()
    for path, value in changes.items():
        change(config, path, value)
    fields.check(config)


def test_a_reference_that_cannot_be_computed_is_named():
    config = quickstart.get_config()
    config.schedule.warmup_epochs = 1.0 / config.get_oneway_ref("epochs")
    fields.check(config)
    config.epochs = 0.0
    with pytest.raises(
        UserError, match=r"schedule\.warmup_epochs cannot be computed .*: ZeroDivisi"
    ):
        fields.check(config)


def test_a_run_of_more_steps_than_a_table_holds_is_refused():
    config = quickstart.get_config()
    config.epochs = 1e7
    with pytest.raises(UserError, match="is 220000000 steps; a run has from 1 to 100000000"):
        build.build(config)


def test_a_grace_of_more_steps_than_are_counted_is_refused():
    config = quickstart.get_config()
    config.guard.grace_epochs = 1e8
    with pytest.raises(UserError, match=r"guard\.grace_epochs=100000000.0 .* is 2200000000 steps"):
        build.build(config)


def test_images_that_fill_the_memory_are_refused():
    config = quickstart.get_config()
    config.data.image_size = 4096
    with pytest.raises(UserError, match="digits in images of 4096x4096 pixels has 30 GB"):
        build.build(config)


# What a field may well be, alone; every field is here.
GOOD = {
    "seed": st.integers(0, 2**32 - 1),
    "epochs": st.floats(0.05, 1e6) | st.integers(1, 100),
    "batch_size": st.integers(1, 1437),
    "eval_batch_size": st.integers(1, 65536),
    "log_every_steps": st.integers(1, 10**6),
    "data.name": st.just("digits"),
    "data.data_dir": st.none() | st.text(),
    "data.image_size": st.none() | st.sampled_from([1, 4, 8, 16, 32, 64, 2048]),
    "data.validation_examples": st.integers(0, 1436),
    "data.preprocess": st.permutations(fields.PREPROCESS).flatmap(
        lambda steps: st.integers(0, 5).map(lambda count: tuple(steps[:count]))
    ),
    "data.zca_epsilon": st.floats(1e-30, 1e30),
    "data.augment": st.booleans(),
    "data.crop_padding": st.integers(0, 20),
    # Large networks take long to trace, so small ones are more likely.
    "model.name": st.sampled_from(["nn2", "nn3", "lenet4", "resnet10"] * 9 + [*BACKBONES]),
    "model.width_multiplier": st.sampled_from([0.01, 0.1, 0.25, 1.0, 64]),
    "model.variant": st.sampled_from(fields.CHOICES["model.variant"]),
    "model.dtype": st.sampled_from(fields.CHOICES["model.dtype"]),
    "model.matmul_precision": st.sampled_from(fields.CHOICES["model.matmul_precision"]),
    "model.batch_norm": st.booleans(),
    "model.auxiliary_heads": st.booleans(),
    "model.dropout_rate": st.none() | st.sampled_from([0.0, 0.5, 0.999]),
    "model.attention.name": st.sampled_from(fields.CHOICES["model.attention.name"]),
    "model.attention.patch_size": st.sampled_from([1, 2, 4, 8, 16]),
    "model.attention.width": st.sampled_from([4, 8, 32, 64, 16384]),
    "model.attention.num_heads": st.sampled_from([1, 2, 4, 8]),
    "model.attention.mlp_width": st.sampled_from([1, 16, 64, 16384]),
    "optimizer.name": st.sampled_from(fields.CHOICES["optimizer.name"]),
    "optimizer.momentum": st.floats(0, 1, exclude_max=True),
    "optimizer.nesterov": st.booleans(),
    "optimizer.weight_decay": st.floats(0, 1) | st.floats(0, 1e30),
    "optimizer.decay": st.none() | st.sampled_from(fields.CHOICES["optimizer.decay"]),
    "optimizer.decayed": st.sampled_from(fields.CHOICES["optimizer.decayed"]),
    "optimizer.clip_norm": st.none() | st.floats(0, 1e30, exclude_min=True),
    "schedule.name": st.sampled_from(fields.CHOICES["schedule.name"]),
    "schedule.init_value": st.floats(0, 1) | st.floats(0, 1e6),
    "schedule.end_value": st.floats(0, 0.1) | st.floats(0, 1e6),
    "schedule.init_decay_epochs": st.floats(0.1, 100) | st.floats(0.1, 1e9),
    "schedule.restart_interval_epochs": st.none() | st.floats(0.1, 100) | st.floats(0.1, 1e9),
    "schedule.restart_multiplier": st.floats(0.5, 4) | st.floats(0, 1e30, exclude_min=True),
    "schedule.restart_value": st.none() | st.floats(0, 1) | st.floats(0, 1e6),
    "schedule.restart_decay": st.floats(0, 1, exclude_min=True),
    "schedule.warmup_epochs": st.floats(0, 1) | st.floats(0, 1e9),
    "schedule.warmup_init_value": st.floats(0, 1) | st.floats(0, 1e6),
    "schedule.variant": st.sampled_from(fields.CHOICES["schedule.variant"]),
    "schedule.base": st.none() | st.floats(0, 10, exclude_min=True) | st.floats(1, 1e30),
    "schedule.first_step": st.floats(1e-6, 10) | st.floats(1e-6, 1e30),
    "schedule.slope": st.floats(0, 10, exclude_min=True) | st.floats(1, 1e30),
    "schedule.boundaries": st.lists(st.floats(0.01, 1), max_size=4, unique=True)
    .map(sorted)
    .map(tuple),
    "schedule.decay_rate": st.floats(0, 1, exclude_min=True),
    "schedule.cooldown": st.sampled_from(fields.CHOICES["schedule.cooldown"]),
    "schedule.cooldown_fraction": st.floats(0, 1, exclude_min=True),
    "schedule.half_cycle_epochs": st.floats(0.1, 100) | st.floats(0.1, 1e9),
    "schedule.triangle_decay_rate": st.floats(0, 1, exclude_min=True),
    "loss.name": st.sampled_from(fields.CHOICES["loss.name"]),
    "loss.label_smoothing": st.floats(0, 1, exclude_max=True),
    "parallel.strategy": st.sampled_from(fields.CHOICES["parallel.strategy"]),
    "parallel.sync_batch_norm": st.booleans(),
    "parallel.accumulate_steps": st.sampled_from([1, 1, 1, 2, 4, 65536]),
    "guard.loss_threshold": st.none() | st.floats(0, 1e30, exclude_min=True),
    "guard.grace_epochs": st.floats(0, 1e6) | st.floats(0, 1e9),
    "guard.max_rollbacks": st.integers(0, 1000),
    "guard.peak_factor": st.floats(0, 1, exclude_min=True),
    "guard.extra_warmup_epochs": st.floats(0, 10),
    "checkpoint.every_epochs": st.integers(1, 10**6),
    "checkpoint.max_to_keep": st.integers(1, 10**6),
}
NAMES = st.sampled_from(sorted(GOOD))
SECTIONS = [
    "data",
    "model",
    "model.attention",
    "optimizer",
    "schedule",
    "loss",
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
    | st.sampled_from(sorted({word for words in fields.CHOICES.values() for word in words}))
    | st.lists(st.floats() | st.sampled_from(fields.PREPROCESS), max_size=3).map(tuple)
)
LIKELY = NAMES.flatmap(lambda name: st.tuples(st.just(name), GOOD[name]))
UNLIKELY = (
    st.tuples(NAMES, ANYTHING)
    | st.tuples(NAMES, st.sampled_from(EXTREMES))
    | st.tuples(NAMES | st.sampled_from(SECTIONS), st.just(MISSING) | ANYTHING)
    | st.tuples(NAMES.map(lambda name: f"{name}s"), ANYTHING)
)


def some(names, lead):
    """Changes of a few fields, and always of one that says what the others are of."""
    likely = st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), GOOD[name]))
    return st.tuples(st.lists(likely, max_size=4), st.tuples(st.just(lead), GOOD[lead])).map(
        lambda parts: [*parts[0], parts[1]]
    )


CHANGES = (
    some([name for name in GOOD if name.startswith("schedule.")], "schedule.name")
    | some([name for name in GOOD if name.startswith(("model.", "data.", "optim"))], "model.name")
    | st.lists(LIKELY, min_size=1, max_size=8)
    | st.lists(LIKELY | UNLIKELY, min_size=1, max_size=4)
    | st.lists(UNLIKELY, min_size=1, max_size=2)
)


def test_the_configs_that_are_made_up_change_every_field():
    assert set(GOOD) == set(leaves(base.get_config()))


def changed(changes):
    config = quickstart.get_config()
    # A section that is taken away or no section any more has no fields to be changed.
    for path, value in sorted(changes, key=lambda item: -item[0].count(".")):
        change(config, path, value)
    return config


def experiment_of(config, seen):
    """What is built from a config that is let pass, having seen that it can be trained; or None."""
    try:
        experiment = build.build(config)
    except UserError as error:
        assert_one_sentence(error)
        return None
    last = experiment.num_steps - 1
    rates = np.asarray(experiment.schedule(np.array([0, last // 2, last], np.int32)))
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    # A program depends on the names among the optimizer's fields and on no numbers.
    names = {name: value for name, value in config.optimizer.items() if isinstance(value, str)}
    program = json.dumps(
        [config.model.to_dict(), names, config.optimizer.clip_norm is None, experiment.dataset[:5]]
    )
    if program not in seen:
        jax.eval_shape(init_state(experiment), jax.random.key(0))
        seen.add(program)
    return experiment


def init_state(experiment):
    return partial(
        step.init_state,
        model=experiment.model,
        optimizer=experiment.optimizer,
        image_shape=experiment.dataset.image_shape,
    )


def made_up_configs(count):
    """Tries so many configs; returns those let pass, each with what was built from it."""
    let_pass, refused, seen = [], 0, set()

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
            let_pass.append((config, experiment))

    each()
    assert len(let_pass) > count / 4
    assert refused > count / 4
    return let_pass


def test_made_up_configs_are_refused_in_one_sentence_or_can_be_trained():
    made_up_configs(150)


@pytest.mark.slow
def test_many_made_up_configs_are_refused_in_one_sentence_or_can_be_trained(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    let_pass = made_up_configs(2000)
    # Some of them, of networks and sizes that a CPU is quick with, take a step.
    quick = [
        (config, experiment)
        for config, experiment in let_pass
        if config.model.name in ("nn2", "nn3", "lenet4")
        and config.model.width_multiplier <= 1
        and config.model.attention.width <= 64
        and max(experiment.dataset.image_shape) <= 16
    ]
    assert len(quick) > 20
    for config, experiment in quick[:: len(quick) // 10][:10]:
        assert_takes_a_step(config, experiment)


def assert_takes_a_step(config, experiment):
    dataset, normalize = build.load(config, experiment)
    train_step, _ = build.make_steps(config, experiment, normalize)
    strategy = parallel.make_strategy(config.parallel, jax.devices()[:1])
    train_steps = parallel.training(
        train_step,
        batch_size=config.batch_size,
        steps_per_epoch=experiment.steps_per_epoch,
        share=strategy.share,
    )
    state = jax.jit(init_state(experiment))(jax.random.key(config.seed))
    train_split, _ = parallel.to_device(dataset, strategy.sharding)
    order = jax.numpy.arange(experiment.dataset.num_train)
    state, metrics, _ = strategy.compile(train_steps, donate=True)(state, train_split, order, 1)
    assert state.step == 1
    assert metrics.compute()["loss"].shape == ()
