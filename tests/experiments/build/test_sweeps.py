"""Sweeps read from a config, and the experiments of their trials; mistakes are one sentence."""

import importlib
import os
from pathlib import Path

import pytest

from configs import naveen2024, quickstart
from configs.sweeps import base as sweeps_base
from configs.sweeps import digits
from experiments.build.experiment import build
from experiments.build.sweeps import Axis, late_restart, read_sweep
from experiments.errors import UserError
from experiments.sweeping import plan
from tests.experiments.build.edits import assert_one_sentence

SWEEPS = Path(__file__).parents[3] / "configs" / "sweeps"
CONFIGS = sorted({file.stem for file in SWEEPS.glob("*.py")} - {"base", "methods"})


def change(config, path, value):
    *sections, name = path.split(".")
    for section in sections:
        config = config[section]
    config[name] = value


def setting(**fields):
    return ({"name": "a", **fields},)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_sweep_builds(name):
    config = importlib.import_module(f"configs.sweeps.{name}").get_config()
    if config.base.data.name != "digits" and "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("TFDS_DATA_DIR names no prepared data sets")
    sweep = read_sweep(config)
    points = plan.grid_points(sweep)
    tuning = plan.tuning_trials(sweep)
    final = plan.final_trials(sweep, dict.fromkeys(sweep.settings, points[-1]))
    assert len(tuning) == len(config.settings) * len(points) * len(config.tune.seeds)
    assert len(final) == len(config.settings) * len(config.seeds)


def test_sweep_holds_the_values_of_its_config():
    config = digits.get_config()
    config.block_size = 3
    config.checkpoint_every_epochs = 2
    sweep = read_sweep(config)
    assert list(sweep.settings) == [setting["name"] for setting in config.settings]
    assert sweep.settings["cosine"] == {"schedule.name": "cosine", "schedule.warmup_epochs": 0.0}
    assert sweep.grid == (Axis("schedule.peak_value", (0.02, 0.1, 0.5)),)
    assert (sweep.seeds, sweep.tune_seeds) == ((0, 1, 2, 3, 4), (100, 101))
    assert (sweep.validation_examples, sweep.block_size) == (200, 3)
    assert sweep.checkpoint_every_epochs == 2
    assert sweep.config["base"]["schedule"]["end_value"] == pytest.approx(0.001)


def test_trial_is_the_experiment_of_a_single_run():
    config = digits.get_config()
    experiment = read_sweep(config).experiment(
        "cosine (restarts)", {"schedule.peak_value": 0.5}, 7, validation_examples=200
    )
    run = config.base.copy_and_resolve_references()
    run.seed = 7
    run.schedule.update(
        name="cyclical_cosine",
        peak_value=0.5,
        end_value=0.005,  # a reference in the config of the sweep, to a hundredth of the peak
        init_decay_epochs=2.0,
        restart_interval_epochs=2.0,
    )
    run.data.validation_examples = 200
    single = build(run)
    assert experiment.config["schedule"].pop("end_value") == pytest.approx(0.005)
    assert single.config["schedule"].pop("end_value") == 0.005
    assert experiment.config == single.config
    assert experiment.task.num_train == 1437 - 200
    assert (experiment.seed, experiment.batches) == (7, single.batches)


def test_setting_may_have_options_of_its_schedule():
    config = digits.get_config()
    config.settings = (
        {"name": "a", "schedule.name": "polynomial", "schedule.options.power": 3.0},
        {"name": "b", "schedule.name": "cosine"},
    )
    sweep = read_sweep(config)
    configs = [
        sweep.experiment(name, {"schedule.peak_value": 0.5}, 0).config for name in ("a", "b")
    ]
    assert [each["schedule"]["options"] for each in configs] == [{"power": 3.0}, {}]


def test_building_a_trial_leaves_the_sweep_unchanged():
    config = digits.get_config()
    sweep = read_sweep(config)
    sweep.experiment("cosine", {"schedule.peak_value": 0.5}, 3, validation_examples=200)
    assert config.base.schedule.peak_value == 0.1
    assert config.base.seed == 0
    assert sweep.experiment("cosine", {}, 3).task.num_train == 1437


def test_trials_share_what_the_seed_does_not_change():
    sweep = read_sweep(digits.get_config())
    point = {"schedule.peak_value": 0.5}
    trials = sweep.experiments("cosine", point, (3, 4), validation_examples=200)
    assert trials[0].task is trials[1].task
    for trial, seed in zip(trials, (3, 4), strict=True):
        single = sweep.experiment("cosine", point, seed, validation_examples=200)
        assert (trial.seed, trial.config) == (seed, single.config)


def test_trials_of_a_config_that_refers_to_its_seed_share_nothing():
    config = digits.get_config()
    config.base.checkpoint.max_to_keep = 1 + config.base.get_oneway_ref("seed")
    first, second = read_sweep(config).experiments("cosine", {}, (3, 4))
    assert first.task is not second.task
    assert (first.checkpoints.max_to_keep, second.checkpoints.max_to_keep) == (4, 5)


def test_every_seed_is_checked():
    with pytest.raises(UserError, match=r"^setting 'cosine': seed=-1 is out of range; it must be"):
        read_sweep(digits.get_config()).experiments("cosine", {}, (0, -1))


BAD = [
    ("block_size", 0, "block_size=0 .* at least 1"),
    ("checkpoint_every_epochs", 0, "checkpoint_every_epochs=0 .* at least 1"),
    ("tune.seeds", ("a",), "'constant': seed='a' has the wrong type"),
    ("grid", ({"field": "schedule.peak_value"},), "each axis has a field and values"),
    ("settings", (), "no settings"),
    ("settings", ({"schedule.name": "sig"},), "has no name"),
    ("settings", (*setting(), *setting()), "settings have 'a' twice"),
    ("settings", setting(**{"schedule.nmae": "sig"}), "'a': unknown field 'schedule.nmae'"),
    ("settings", setting(**{"schedul.name": "sig"}), "'a': unknown field 'schedul.name'"),
    ("settings", setting(**{"seed.x": 1}), "'a': unknown field 'seed.x'"),
    ("settings", setting(**{"schedule": "sig"}), "'schedule' is a section, not a field"),
    ("settings", setting(**{"schedule.slope": "high"}), "slope='high' has the wrong type"),
    (
        "settings",
        setting(**{"schedule.name": "cosine", "schedule.options.pwoer": 2.0}),
        "setting 'a' at .*pwoer",
    ),
    (
        "settings",
        setting(**{"schedule.peak_value": 0.1}),
        "'a' fixes schedule.peak_value, which the grid tunes",
    ),
    (
        "settings",
        setting(**{"schedule.name": "sgi"}),
        "setting 'a' at schedule.peak_value=0.02: schedule.name='sgi' is unknown; choose from",
    ),
    (
        "settings",
        setting(**{"schedule.name": "no_such_module:make"}),
        "setting 'a' at .*: schedule.name='no_such_module:make' cannot be imported",
    ),
    (
        "settings",
        setting(**{"parallel.strategy": "pmap"}),
        "setting 'a': parallel.strategy cannot differ: all trials of a sweep must share it; set",
    ),
    ("seeds", (), "no seeds"),
    ("seeds", (1, 2, 1), "seeds have 1 twice"),
    ("seeds", (1, 100), "seeds and tune.seeds both have 100"),
    (
        "grid",
        ({"field": "schedule.peak", "values": (1.0,)},),
        "grid: unknown field 'schedule.peak'",
    ),
    ("grid", ({"field": "schedule.name", "values": ("sig",)},), "schedule.name is not numeric"),
    ("grid", ({"field": "schedule.peak_value", "values": ()},), "peak_value has no values"),
    (
        "grid",
        ({"field": "schedule.peak_value", "values": ("x",)},),
        "the value 'x', which is not a number",
    ),
    (
        "grid",
        ({"field": "schedule.peak_value", "values": (True,)},),
        "the value True, which is not a number",
    ),
    ("grid", ({"field": "schedule.peak_value", "values": (0.1, 0.1)},), "have 0.1 twice"),
    (
        "grid",
        2 * ({"field": "schedule.peak_value", "values": (0.1,)},),
        "grid have 'schedule.peak_value' twice",
    ),
    ("grid", ({"field": "schedule.peak_value", "values": (-0.1,)},), "at schedule.peak_value=-0.1"),
    ("tune.seeds", (), "a grid but no tune.seeds"),
    ("tune.seeds", (100, 100), "tune.seeds have 100 twice"),
    (
        "tune.selection",
        "first",
        "tune.selection='first' is unknown; choose from best, one_standard_error$",
    ),
    ("tune.max_extensions", -1, "tune.max_extensions=-1 is out of range; it must be at least 0"),
    ("tune.validation_examples", 0, "tune.validation_examples=0 is out of range"),
    ("tune.validation_examples", 1437, "leaves no training examples: digits has 1437"),
    *(
        ("settings", setting(**{path: value}), f"setting 'a': {path} cannot differ: ")
        for path, value in {
            "seed": 3,
            "epochs": 5.0,
            "batch_size": 32,
            "eval_batch_size": 100,
            "log_every_steps": 5,
            "task.name": "my_task:make",
            "data.validation_examples": 100,
            "data.data_dir": "elsewhere",
            "checkpoint.every_epochs": 2,
            "guard.max_rollbacks": 1,
            "parallel.accumulate_steps": 2,
        }.items()
    ),
    *(
        ("grid", ({"field": path, "values": (1, 2)},), f"grid: {path} cannot differ: ")
        for path in (
            *("seed", "epochs", "batch_size", "log_every_steps", "data.validation_examples"),
            *("checkpoint.max_to_keep", "guard.peak_factor", "parallel.accumulate_steps"),
        )
    ),
    (
        "grid",
        ({"field": "schedule.slope", "values": (5.0, 7.0)},),
        r"setting 'constant' at schedule.slope=7.0: schedule.slope=7.0 has no effect with schedule",
    ),
    (
        "settings",
        setting(**{"schedule.name": "cosine", "schedule.restart_decay": 0.5}),
        "schedule.restart_decay=0.5 has no effect here; it needs a schedule with restarts",
    ),
    ("base.model.dropout_rate", 0.5, "model.dropout_rate=0.5 has no effect with model.name='nn2'"),
    ("base.parallel.strategy", "pmap", "parallel.strategy='pmap' does not work in a sweep"),
    ("base.guard.max_rollbacks", 1, "so it does not support guard.loss_threshold and guard.max_ro"),
    (
        "settings",
        setting(**{"guard.loss_threshold": 4.5}),
        "'a': guard.loss_threshold cannot differ: a",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=lambda value: str(value)[:40])
def test_mistake_is_refused_in_one_sentence(path, value, message):
    config = digits.get_config()
    change(config, path, value)
    with pytest.raises(UserError, match=message) as error:
        plan.tuning_trials(read_sweep(config))
    assert_one_sentence(error.value)


PEAK = "schedule.peak_value"


@pytest.mark.parametrize(
    ("selection", "max_extensions", "grid", "seeds", "message"),
    [
        (
            *("one_standard_error", 0, {PEAK: (0.1, 0.2)}, (100,)),
            "needs a grid of one field and at least 2 tune.seeds, but there are 1 fields and 1 tu",
        ),
        ("one_standard_error", 0, {}, (100, 101), "but there are 0 fields and 2 tune.seeds$"),
        (
            *("one_standard_error", 0, {PEAK: (1,), "optimizer.weight_decay": (1,)}, (100, 101)),
            "but there are 2 fields and 2 tune.seeds$",
        ),
        (
            "best",
            1,
            {},
            (100,),
            "^tune.max_extensions=1 needs a grid of one field, but there are 0",
        ),
        (
            *("best", 2, {PEAK: (0.1, 0.2), "optimizer.weight_decay": (0.1, 0.2)}, (100,)),
            "^tune.max_extensions=2 needs a grid of one field, but there are 2$",
        ),
        *(
            ("best", 1, {PEAK: values}, (100,), f"such as .0.1, 0.2, 0.4., not .{values[0]}")
            for values in ((0.1,), (0.2, 0.1), (0.1, 0.2, 0.3), (0.0, 0.1), (-0.2, -0.1))
        ),
    ],
)
def test_rule_of_tuning_that_the_sweep_does_not_allow_is_refused(
    selection, max_extensions, grid, seeds, message
):
    config = digits.get_config()
    config.grid = tuple({"field": field, "values": values} for field, values in grid.items())
    config.tune.update(seeds=seeds, selection=selection, max_extensions=max_extensions)
    with pytest.raises(UserError, match=message) as error:
        read_sweep(config)
    assert_one_sentence(error.value)


def test_rule_of_tuning_is_the_best_point_of_a_fixed_grid_by_default():
    config = digits.get_config()
    sweep = read_sweep(config)
    assert (sweep.selection, sweep.max_extensions) == ("best", 0)
    # So a sweep that was started before the fields existed resumes.
    assert list(sweep.config["tune"]) == ["seeds", "validation_examples"]
    config.grid = ({"field": PEAK, "values": (0.0316, 0.1, 0.316)},)  # geometric but for rounding
    config.tune.update(selection="one_standard_error", max_extensions=2)
    sweep = read_sweep(config)
    assert (sweep.selection, sweep.max_extensions) == ("one_standard_error", 2)
    assert sweep.config["tune"] == {
        **{"seeds": [100, 101], "validation_examples": 200},
        **{"selection": "one_standard_error", "max_extensions": 2},
    }


def test_setting_resets_what_the_base_had_set_for_its_own_schedule():
    config = digits.get_config()
    config.base.schedule.update(name="cyclical_cosine", restart_interval_epochs=2.0)
    config.base.schedule.restart_decay = 0.5
    sweep = read_sweep(config)
    stored = sweep.experiment("constant", {}, 0).config["schedule"]
    assert (stored["restart_interval_epochs"], stored["restart_decay"]) == (None, 1.0)
    stored = sweep.experiment("cosine (restarts)", {}, 0).config["schedule"]
    assert (stored["restart_interval_epochs"], stored["restart_decay"]) == (2.0, 0.5)


def test_field_of_the_command_line_must_act_unless_a_setting_replaces_it():
    config = digits.get_config()
    config.settings = ({"name": "sig", "schedule.name": "sig"}, {"name": "own"})
    config.base.schedule.slope = 7.0
    sweep = read_sweep(config, ["base.schedule.slope"])
    assert sweep.experiment("sig", {}, 0).config["schedule"]["slope"] == 7.0
    with pytest.raises(UserError, match=r"setting 'own': schedule\.slope=7\.0 has no effect"):
        sweep.experiment("own", {}, 0)
    config.settings = ({"name": "constant", "schedule.name": "constant"},)
    sweep = read_sweep(config, ["base.schedule.slope"])
    assert sweep.experiment("constant", {}, 0).config["schedule"]["slope"] == 5.0


def test_published_experiment_can_be_swept_without_its_guard():
    config = sweeps_base.make(naveen2024.get_config("1,resnet34,log"))
    config.base.data.update(name="digits", preprocess=("standardize",))
    config.base.guard.loss_threshold = None
    config.settings = ({"name": "a"},)
    trial = read_sweep(config, ["base.guard.loss_threshold"]).experiment("a", {}, 0)
    assert trial.guard.loss_limit.threshold is None


def test_config_of_a_run_is_not_a_sweep_and_vice_versa():
    with pytest.raises(
        UserError, match="the config has no settings, so it is not the config of a sweep"
    ):
        read_sweep(quickstart.get_config())
    with pytest.raises(
        UserError, match="the config has no section schedule, so it is not the config of a run"
    ):
        build(digits.get_config())


@pytest.mark.parametrize(("num_cycles", "expected"), [(None, 935), (5, None)])
def test_restart_in_the_last_steps_is_found(num_cycles, expected):
    """In tuning, an epoch has fewer steps, and the length of a cycle is rounded down."""
    config = digits.get_config()
    config.base.epochs = 26.0  # of 36 steps in tuning, and 44 in the final trials
    config.base.batch_size = 32
    config.settings = setting(
        **{
            "schedule.name": "cyclical_cosine",
            "schedule.warmup_epochs": 0.0,
            "schedule.init_decay_epochs": 5.2,
            "schedule.restart_interval_epochs": 5.2,
            **({} if num_cycles is None else {"schedule.options.num_cycles": num_cycles}),
        }
    )
    sweep = read_sweep(config)
    point = {"schedule.peak_value": 0.1}
    assert late_restart(sweep.experiment("a", point, 0)) is None
    assert late_restart(sweep.experiment("a", point, 0, validation_examples=277)) == expected
