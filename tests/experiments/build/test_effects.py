"""Every field of a config changes what a run does, or is refused."""

import copy
import hashlib

import jax
import numpy as np
import pytest

import loganneal_jax
from configs import base, quickstart
from experiments.build import effects, features
from experiments.build.experiment import build
from experiments.errors import UserError
from experiments.program import parallel
from tests.experiments.build.edits import assert_one_sentence, change, leaves
from tests.experiments.models.networks import use_few_blocks

PLAIN = {
    **{"data.name": "digits", "data.augment": False, "epochs": 4.0, "batch_size": 64},
    **{"model.name": "nn2", "model.width_multiplier": 0.02, "model.attention.name": "none"},
    "schedule.name": "constant",
}
RICH = {
    **{"data.name": "digits", "epochs": 8.0, "batch_size": 64, "model.name": "nn2"},
    **{"data.preprocess": ("zca",), "data.crop_padding": 1, "model.width_multiplier": 0.02},
    **{"model.attention.width": 8, "model.attention.mlp_width": 8, "optimizer.clip_norm": 1.0},
    **{"schedule.warmup_epochs": 0.5, "schedule.init_decay_epochs": 2.0},
    **{"schedule.restart_interval_epochs": 2.0, "guard.loss_threshold": 4.5},
    "guard.max_rollbacks": 1,
}
REGRESSION = {"task.name": "linear_regression", "epochs": 0.1, "schedule.name": "constant"}
RESNET = {**PLAIN, "model.name": "resnet10"}
GOOGLENET = {**PLAIN, "model.name": "googlenet", "model.width_multiplier": 0.05}
GAN = {
    **{"data.name": "digits", "epochs": 4.0, "batch_size": 64, "task.name": "gan"},
    **{"model.name": "dcgan", "model.width_multiplier": 0.02, "schedule.name": "constant"},
}
VGG = {**PLAIN, "model.name": "vgg9", "data.image_size": 16}
LANGUAGE = {
    **{"task.name": "language_model", "data.name": "markov", "model.name": "transformer"},
    **{"model.width": 8, "data.context_length": 16, "model.num_layers": 1},
    "schedule.name": "constant",
}
# Each field's other value, and the configs in which it is tried besides PLAIN and RICH.
VALUES = {
    "seed": (3,),
    "epochs": (6.0,),
    "batch_size": (32,),
    "eval_batch_size": (100,),
    "log_every_steps": (7,),
    "init_from": ("runs/other",),
    "task.name": (f"{__name__}:other_task",),
    "linear_regression.dimensions": (3, REGRESSION),
    "linear_regression.exponent": (2.0, REGRESSION),
    "linear_regression.noise": (0.5, REGRESSION),
    "data.name": ("mnist_like",),
    "data.data_dir": ("elsewhere",),
    "data.image_size": (4,),
    "data.loading": ("stream",),
    "data.memory_share": (0.5,),
    "data.workers": (2,),
    "data.max_damaged": (3,),
    "data.validation_examples": (100,),
    "data.preprocess": (("global_contrast_normalization",),),
    "data.zca_epsilon": (0.5,),
    "data.augment": (False, {**RICH, "data.crop_padding": 4}),
    "data.crop_padding": (2,),
    "data.context_length": (8, LANGUAGE),
    "data.tokens": ("bytes", LANGUAGE),
    "model.name": ("nn3",),
    "model.width_multiplier": (0.04,),
    "model.variant": ("imagenet", {**RESNET, "data.image_size": 32}),
    "model.dtype": ("bfloat16",),
    "model.matmul_precision": ("highest",),
    "model.num_layers": (2, LANGUAGE),
    "model.num_heads": (2, LANGUAGE),
    "model.width": (16, LANGUAGE),
    "model.tied_embeddings": (False, LANGUAGE),
    "model.batch_norm": (True, VGG),
    "model.auxiliary_heads": (True, GOOGLENET),
    "model.dropout_rate": (0.25, VGG),
    "model.attention.name": ("before",),
    "model.attention.patch_size": (2,),
    "model.attention.width": (16,),
    "model.attention.num_heads": (2,),
    "model.attention.mlp_width": (16,),
    "optimizer.name": ("adam",),
    "optimizer.momentum": (0.5, {**PLAIN, "optimizer.name": "adam"}),
    "optimizer.nesterov": (True, {**PLAIN, "optimizer.name": "adam"}),
    "optimizer.beta1": (0.8, {**PLAIN, "optimizer.name": "adam"}),
    "optimizer.beta2": (0.9, {**PLAIN, "optimizer.name": "adam"}),
    "optimizer.beta3": (0.9, {**PLAIN, "optimizer.name": "adan"}),
    "optimizer.epsilon": (1e-3, {**PLAIN, "optimizer.name": "adam"}),
    "optimizer.consistent_rms": (0.2, {**PLAIN, "optimizer.name": "muon"}),
    "optimizer.weight_decay": (0.1,),
    "optimizer.weight_decay_mode": ("decoupled",),
    "optimizer.weight_decay_mask": ("kernels",),
    "optimizer.clip_norm": (2.0,),
    "schedule.name": ("cosine",),
    "schedule.peak_value": (0.2,),
    "schedule.end_value": (0.01,),
    "schedule.total_epochs": (2.0,),
    "schedule.init_decay_epochs": (1.0,),
    "schedule.restart_interval_epochs": (1.0,),
    "schedule.restart_multiplier": (2.0, {**RICH, "schedule.restart_interval_epochs": None}),
    "schedule.restart_value": (0.05, {**RICH, "schedule.restart_interval_epochs": None}),
    "schedule.restart_decay": (0.5, {**RICH, "schedule.restart_interval_epochs": None}),
    "schedule.warmup_epochs": (1.0,),
    "schedule.warmup_init_value": (0.01, {**RICH, "schedule.warmup_epochs": 0.0}),
    "schedule.variant": ("normalized",),
    "schedule.base": (3.0, {**RICH, "schedule.variant": "normalized"}),
    "schedule.first_step": (5.0,),
    "schedule.slope": (8.0, {**PLAIN, "schedule.name": "sig"}),
    "schedule.boundaries": ((0.25, 0.5), {**PLAIN, "schedule.name": "str"}),
    "schedule.decay_rate": (0.5, {**PLAIN, "schedule.name": "str"}),
    "schedule.cooldown": ("1-sqrt", {**PLAIN, "schedule.name": "trap"}),
    "schedule.cooldown_fraction": (0.5, {**PLAIN, "schedule.name": "trap"}),
    "schedule.half_cycle_epochs": (0.5, {**PLAIN, "schedule.name": "triangular"}),
    "schedule.triangle_decay_rate": (
        *(0.9, {**PLAIN, "schedule.name": "triangular_exp_range"}),
        {**PLAIN, "schedule.name": "triangular"},
    ),
    "loss.name": ("sigmoid_categorical_cross_entropy",),
    "loss.label_smoothing": (0.1,),
    "averaging.ema_decay": (0.9,),
    "averaging.swa_start_epoch": (2,),
    "averaging.cycle_snapshots": (True,),
    "gan.loss": ("hinge", GAN),
    "gan.gradient_penalty": (1.0, GAN, {**GAN, "gan.loss": "wasserstein"}),
    "gan.latent_size": (8, GAN),
    "gan.discriminator_steps": (2, GAN),
    "gan.generator_rate": (0.5, GAN),
    "gan.discriminator_rate": (0.5, GAN),
    "gan.spectral_norm": (True, GAN),
    "gan.upsampling": ("transposed", GAN),
    "guard.loss_threshold": (9.0,),
    "guard.grace_epochs": (1.0,),
    "guard.max_rollbacks": (2,),
    "guard.peak_factor": (0.25,),
    "guard.extra_warmup_epochs": (1.0,),
    "parallel.strategy": ("pmap",),
    "parallel.sync_batch_norm": (True, {**RESNET, "parallel.strategy": "pmap"}),
    "parallel.accumulate_steps": (2,),
    "checkpoint.every_epochs": (3,),
    "checkpoint.max_to_keep": (5,),
    "checkpoint.keep_best": (True,),
}
# Other data sets need files. A task of the user's own is tested below.
NEVER_ACTS_HERE = {
    *("data.data_dir", "data.loading", "data.max_damaged", "data.memory_share", "data.name"),
    *("data.tokens", "data.workers"),
}


@pytest.fixture(autouse=True)
def quick_networks(monkeypatch):
    """Shortens deep networks, and trains no classifier of features, which no training step uses."""
    use_few_blocks(monkeypatch)
    monkeypatch.setattr(features, "extractor", lambda dataset: None)


def other_task(config, axis_name):
    """A task of the user's own: classification under another name."""
    from experiments.build.tasks import TASKS

    return TASKS["classification"](config, axis_name)._replace(data="other")


def config_of(fields):
    config = base.get_config()
    for path, value in fields.items():
        change(config, path, value)
    return config


def rates_of(experiment):
    """Returns the learning rates of all steps; the last one fills the table of a short run."""
    length = max(SHORT, experiment.num_steps)
    steps = np.minimum(np.arange(length, dtype=np.int32), experiment.num_steps - 1)
    with jax.disable_jit():  # an operation of one shape compiles once for all schedules
        return np.asarray(experiment.schedule(jax.device_put(steps))).tobytes()


def quick_outcome(experiment):
    """Everything about an experiment except the program of its task."""
    return (
        rates_of(experiment),
        *(experiment.weight_decay, experiment.batches, experiment.num_steps, experiment.seed),
        *(experiment.log_every_steps, experiment.accumulate_steps, experiment.strategy),
        *(experiment.averaging, experiment.guard, experiment.checkpoints, experiment.init_from),
        *(experiment.task.data, experiment.task.model),
        experiment.task.num_train,
        experiment.config["schedule"]["total_epochs"],  # the summary shows it
    )


def slow_outcome(experiment):
    """The data, and the training step as a program, whose numbers are constants in it."""
    task, data = experiment.task, experiment.task.load()
    hashes = [
        hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        for split in data
        for array in split.values()
    ]
    state = jax.eval_shape(lambda key: task.init(key, experiment.optimizer), jax.random.key(0))
    split = parallel.shapes_of(data.train)
    shape = (4,) if experiment.strategy == "jit" else (2, 4)
    indices = jax.ShapeDtypeStruct(shape, np.int32)

    def train_step(state, split, indices):
        batch = task.batch(split, indices, jax.random.key(0))
        return task.train_step(state, batch, experiment.optimizer)

    if experiment.strategy == "pmap":
        train_step = jax.vmap(train_step, in_axes=(None, None, 0), axis_name=parallel.AXIS)
    return *hashes, str(jax.make_jaxpr(train_step)(state, split, indices))


SHORT = 400  # steps of a run
BUILT = {}  # experiments and their outcomes by config, built once for all fields
TRACED = {}  # slow outcomes of the same


def built(fields):
    key = repr(fields)
    if key not in BUILT:
        experiment = build(config_of(fields))
        BUILT[key] = experiment, quick_outcome(experiment)
    return BUILT[key]


def acts(fields, path, value):
    """Whether another value changes the outcome; False if it is refused."""
    before, outcome = built(fields)
    try:
        after = build(config_of({**fields, path: value}))
    except UserError as error:
        assert_one_sentence(error)
        return False
    if outcome == quick_outcome(after):
        if repr(fields) not in TRACED:
            TRACED[repr(fields)] = slow_outcome(before)
        assert TRACED[repr(fields)] != slow_outcome(after), f"{path}={value!r} changes nothing"
    return True


def test_every_field_has_two_values():
    assert set(VALUES) == set(leaves(base.get_config()))


@pytest.mark.parametrize("path", VALUES)
def test_field_changes_the_outcome_or_is_refused(path):
    value, *more = VALUES[path]
    contexts = [PLAIN, RICH, *more]
    acting = [acts(fields, path, value) for fields in contexts if fields.get(path) != value]
    assert any(acting) != (path in NEVER_ACTS_HERE)


DEAD = [
    (
        "schedule.slope",
        7.0,
        "no effect with schedule.name='constant'; remove it, or set it to its d",
    ),
    ("schedule.end_value", 0.01, "no effect with schedule.name='constant'"),
    ("schedule.restart_decay", 0.5, "it needs a schedule with restarts, and schedule.restart_in"),
    ("model.dropout_rate", 0.5, "no effect with model.name='nn2'; .* its default, None$"),
    ("model.batch_norm", True, "no effect with model.name='nn2'"),
    ("model.auxiliary_heads", True, "no effect with model.name='nn2'"),
    ("model.variant", "imagenet", "no effect with model.name='nn2'"),
    ("model.attention.width", 32, "no effect with model.attention.name='none'"),
    ("parallel.sync_batch_norm", True, "it needs parallel.strategy='pmap'"),
    ("data.crop_padding", 2, r"it needs data\.augment=True"),
    ("data.zca_epsilon", 0.5, "it needs the step zca in data.preprocess"),
    ("guard.grace_epochs", 1.0, r"it needs guard\.loss_threshold"),
    ("guard.peak_factor", 0.1, "it needs guard.max_rollbacks of at least 1"),
    ("schedule.peak_value", 0.0, "the learning rate of schedule.name='constant' is 0 at every st"),
]


@pytest.mark.parametrize(("path", "value", "message"), DEAD, ids=lambda value: str(value)[:30])
def test_field_without_effect_is_refused(path, value, message):
    with pytest.raises(UserError, match=message) as error:
        build(config_of({**PLAIN, path: value}))
    assert_one_sentence(error.value)


def test_batch_norm_that_a_network_does_not_have_cannot_be_synchronized():
    fields = {**PLAIN, "parallel.strategy": "pmap", "parallel.sync_batch_norm": True}
    with pytest.raises(
        UserError, match=r"sync_batch_norm=True has no effect with model.name='nn2'"
    ):
        build(config_of(fields))


def test_option_of_no_task_is_refused():
    config = config_of(PLAIN)
    config.task.options.rate = 3
    with pytest.raises(UserError, match=r"^task\.options\.rate=3 has no effect .*; remove it$"):
        build(config)


def test_change_of_a_section_resets_what_its_file_had_set():
    config = quickstart.get_config()
    config.schedule.name = "cosine"
    with pytest.raises(UserError, match=r"^schedule\.init_decay_epochs=5\.0 has no effect"):
        build(config)
    stored = build(config, ["schedule.name"]).config
    defaults = base.get_config().schedule.to_dict() | {"name": "cosine", "boundaries": [0.5, 0.75]}
    assert stored["schedule"] == defaults
    assert stored["model"] == config.model.to_dict()
    # The config itself is unchanged.
    assert config.schedule.restart_multiplier == 2.0


def test_change_of_one_section_resets_nothing_in_another():
    config = quickstart.get_config()
    config.model.dropout_rate = 0.5
    config.schedule.name = "cosine"
    with pytest.raises(UserError, match=r"^model\.dropout_rate=0\.5 has no effect with"):
        build(config, ["schedule.name"])


def test_field_that_was_given_is_refused_rather_than_reset():
    config = quickstart.get_config()
    config.schedule.update(name="cosine", slope=7.0)
    with pytest.raises(UserError, match=r"^schedule\.slope=7\.0 has no effect"):
        build(config, ["schedule.name", "schedule.slope"])


def test_restarts_of_the_quickstart_can_be_switched_off():
    config = quickstart.get_config()
    change(config, "schedule.restart_interval_epochs", None)
    experiment = build(config, ["schedule.restart_interval_epochs"])
    rates = np.asarray(loganneal_jax.tabulate(experiment.schedule, experiment.num_steps))
    assert (np.diff(rates) <= 0).all()
    assert experiment.config["schedule"]["restart_multiplier"] == 1.0


def own_schedule(config, run):
    """A schedule of the user's own, which reads one field of its section."""
    rate = config.peak_value
    return lambda count: rate + 0.0 * count


def greedy_schedule(config, run):
    """A schedule that passes its whole section on."""
    everything = {**config.to_dict(), "copy": copy.deepcopy(config)}
    return lambda count: everything["peak_value"] + 0.0 * count


def test_factory_of_the_user_is_recorded_too():
    fields = {**PLAIN, "schedule.name": f"{__name__}:own_schedule", "schedule.slope": 7.0}
    with pytest.raises(UserError, match=r"schedule\.slope=7\.0 has no effect"):
        build(config_of(fields))
    build(config_of({**fields, "schedule.name": f"{__name__}:greedy_schedule"}))


@pytest.mark.parametrize(
    "read",
    [
        lambda section: section.slope,
        lambda section: section["slope"],
        lambda section: section.get("slope"),
        lambda section: dict(section),
        lambda section: {**section},
        lambda section: section.items(),
        lambda section: section.values(),
        lambda section: section.to_dict(),
        lambda section: section.to_json(),
        lambda section: copy.copy(section),
        lambda section: copy.deepcopy(section),
        lambda section: section.copy_and_resolve_references(),
    ],
)
def test_every_way_to_read_a_field_is_recorded(read):
    recorded = effects.Recorded(config_of({"schedule.slope": 7.0}))
    assert effects.without_effect(recorded) == ["schedule.slope"]
    assert "slope" in recorded.schedule
    assert list(recorded.schedule)
    assert effects.without_effect(recorded) == ["schedule.slope"]
    read(recorded.schedule)
    assert effects.without_effect(recorded) == []
