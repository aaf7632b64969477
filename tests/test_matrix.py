"""A sweep's config becomes trials, or is refused in one sentence before anything is trained."""

import importlib
import math
import os
from pathlib import Path

import pytest

from configs.sweeps import digits
from experiments import build, matrix, trials
from experiments.errors import UserError

SWEEPS = Path(__file__).parents[1] / "configs" / "sweeps"
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
    matrix.check(config)
    points = matrix.grid_points(config)
    tuning = matrix.tuning_trials(config)
    final = matrix.final_trials(config, {s["name"]: points[-1] for s in config.settings})
    assert len(tuning) == len(config.settings) * len(points) * len(config.tune.seeds)
    assert len(final) == len(config.settings) * len(config.seeds)


def test_a_trial_is_the_config_of_a_single_run():
    config = digits.get_config()
    tuning = matrix.tuning_trials(config)
    cosine = [t for t in tuning if t.setting == "cosine (restarts)"]
    assert [(t.values["schedule.init_value"], t.config.seed) for t in cosine] == [
        (peak, seed) for peak in (0.02, 0.1, 0.5) for seed in (100, 101)
    ]
    for trial in cosine:
        peak = trial.values["schedule.init_value"]
        assert trial.phase == "tune"
        assert trial.config.schedule.name == "cyclical_cosine"
        assert trial.config.schedule.init_value == peak
        assert trial.config.schedule.end_value == pytest.approx(0.01 * peak)  # by reference
        assert trial.config.data.validation_examples == 200
        assert trial.experiment.dataset.num_train == 1437 - 200
    assert config.base.schedule.init_value == 0.1
    final = matrix.final_trials(config, {s["name"]: {} for s in config.settings})
    assert {t.config.data.validation_examples for t in final} == {0}
    assert [t.config.seed for t in final[:5]] == [0, 1, 2, 3, 4]


def test_trials_share_a_program_unless_more_than_schedule_seed_and_decay_differ():
    config = digits.get_config()
    config.grid = ()
    config.settings = (
        {"name": "a", "schedule.name": "constant"},
        {"name": "b", "schedule.name": "rex", "schedule.init_value": 0.3},
        {"name": "c", "optimizer.weight_decay": 0.1},
        {"name": "d", "optimizer.momentum": 0.5},
    )
    final = matrix.final_trials(config, {s["name"]: {} for s in config.settings})
    programs = {t.setting: trials.program_of(t.config) for t in final}
    assert len({trials.program_of(t.config) for t in final}) == 2
    assert programs["a"] == programs["b"] == programs["c"] != programs["d"]


BAD = [
    ("block_size", 0, "block_size=0 .* at least 1"),
    ("checkpoint_every_epochs", 0, "checkpoint_every_epochs=0 .* at least 1"),
    ("tune.seeds", ("a",), "'constant': seed='a' has the wrong type"),
    ("grid", ({"field": "schedule.init_value"},), "each of it has a field and values"),
    ("settings", (), "no settings"),
    ("settings", ({"schedule.name": "sig"},), "has no name"),
    ("settings", (*setting(), *setting()), "settings have 'a' twice"),
    ("settings", setting(**{"schedule.nmae": "sig"}), "'a': unknown field 'schedule.nmae'"),
    ("settings", setting(**{"schedul.name": "sig"}), "'a': unknown field 'schedul.name'"),
    ("settings", setting(**{"seed.x": 1}), "'a': unknown field 'seed.x'"),
    ("settings", setting(**{"schedule": "sig"}), "'schedule' is a section, not a field"),
    (
        "settings",
        setting(**{"schedule.slope": "high"}),
        "slope='high' has the wrong type",
    ),
    (
        "settings",
        setting(**{"schedule.init_value": 0.1}),
        "'a' fixes schedule.init_value, which the grid tunes",
    ),
    (
        "settings",
        setting(**{"schedule.name": "sgi"}),
        "setting 'a' at .*unknown schedule.name='sgi'",
    ),
    ("seeds", (), "no seeds"),
    ("seeds", (1, 2, 1), "seeds have 1 twice"),
    ("seeds", (1, 100), "seeds and tune.seeds both have 100"),
    (
        "grid",
        ({"field": "schedule.init", "values": (1.0,)},),
        "grid: unknown field 'schedule.init'",
    ),
    ("grid", ({"field": "schedule.name", "values": ("sig",)},), "schedule.name is not a number"),
    ("grid", ({"field": "schedule.init_value", "values": ()},), "init_value has no values"),
    ("grid", ({"field": "schedule.init_value", "values": ("x",)},), "the value 'x', not a number"),
    (
        "grid",
        ({"field": "schedule.init_value", "values": (True,)},),
        "the value True, not a number",
    ),
    ("grid", ({"field": "schedule.init_value", "values": (0.1, 0.1)},), "have 0.1 twice"),
    ("grid", ({"field": "schedule.init_value", "values": (-0.1,)},), "at schedule.init_value=-0.1"),
    ("tune.seeds", (), "a grid but no tune.seeds"),
    ("tune.seeds", (100, 100), "tune.seeds have 100 twice"),
    ("tune.validation_examples", 0, "tune.validation_examples=0 is out of range"),
    ("tune.validation_examples", 1437, "leaves nothing to train on: digits has 1437"),
    ("base.guard.max_rollbacks", 1, "a sweep runs every trial to its end, so it takes no guard"),
    ("settings", setting(**{"guard.loss_threshold": 4.5}), "setting 'a': a sweep runs every trial"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=lambda value: str(value)[:40])
def test_what_cannot_be_swept_is_named_in_one_sentence(path, value, message):
    config = digits.get_config()
    change(config, path, value)

    def check_and_build():
        matrix.check(config)
        matrix.tuning_trials(config)

    with pytest.raises(UserError, match=message) as error:
        check_and_build()
    assert "\n" not in str(error.value)


def test_a_config_of_a_run_is_no_sweep_and_that_of_a_sweep_no_run():
    with pytest.raises(UserError, match="the config has no settings: it is none of a sweep"):
        matrix.check(digits.get_config().base)
    with pytest.raises(UserError, match="the config has no section schedule: it is none of a run"):
        build.build(digits.get_config())


def test_each_setting_gets_the_point_with_the_best_mean_and_no_diverged_trial():
    config = digits.get_config()
    config.settings = ({"name": "a"}, {"name": "b"}, {"name": "c"})

    def at(value):
        return {"schedule.init_value": value}

    accuracies = [
        *[("a", at(0.02), 0.8), ("a", at(0.02), 0.9), ("a", at(0.1), 0.7), ("a", at(0.1), 0.99)],
        *[("a", at(0.5), 1.0), ("a", at(0.5), math.nan)],
        *[("b", at(0.02), 0.5), ("b", at(0.1), 0.5), ("b", at(0.5), 0.4)],
        *[("c", at(0.02), math.nan), ("c", at(0.1), math.nan), ("c", at(0.5), 0.1)],
    ]
    assert matrix.best_points(config, accuracies) == {"a": at(0.02), "b": at(0.02), "c": at(0.5)}
