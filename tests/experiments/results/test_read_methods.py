"""Reading tells experiments apart: by config, by split, and by the chance level of their data."""

import pytest

from experiments.errors import UserError
from experiments.results import read
from tests.experiments.results.fake_results import trial, write_run, write_sweep

# The fields of a run's config that `write_run` sets.
RUN = {
    "data": {"name": "unused"},
    "model": {"name": "unused"},
    "optimizer": {"name": "sgd"},
    "schedule": {"name": "sig+"},
}


def rejected(*directories):
    with pytest.raises(UserError) as caught:
        read.read(directories)
    return str(caught.value)


def test_sweeps_that_chose_different_points_are_different_methods(tmp_path):
    def tried(value, **fields):
        return trial([0.5, 0.6], **{"schedule.peak_value": value, **fields})

    tuning = [tried(value, phase="tune", seed=9) for value in (0.1, 0.01)]
    sweep = write_sweep(tmp_path / "a", [*tuning, tried(0.1)])
    assert set(read.read([sweep]).rows.setting) == {"sig+"}
    other = write_sweep(tmp_path / "b", [tuning[0], tried(0.01, seed=1)])
    rows = read.read([sweep, other]).rows
    assert dict(zip(rows.source, rows.setting, strict=True)) == {
        str(sweep): "sig+ (schedule.peak_value=0.1)",
        str(other): "sig+ (schedule.peak_value=0.01)",
    }


def test_setting_with_two_points_in_the_final_phase_is_rejected(tmp_path):
    trials = [trial([0.5], seed=seed, **{"a.b": float(seed)}) for seed in (0, 1)]
    sweep = write_sweep(tmp_path / "a", trials)
    assert rejected(sweep) == (
        f"{sweep / 'trials.csv'} has final trials of mnist, nn2, sig+ with different values of "
        "a.b, which cannot share a cell: 0, 1"
    )


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ({}, {"batch_size": 64}, ["(batch_size=None)", "(batch_size=64)"]),
        ({"batch_size": 128}, {"batch_size": 64}, ["(batch_size=128)", "(batch_size=64)"]),
        (
            {"optimizer": {"name": "sgd", "clip_norm": None}},
            {"optimizer": {"name": "sgd", "clip_norm": 1.0}},
            ["(optimizer.clip_norm=None)", "(optimizer.clip_norm=1)"],
        ),
        (
            {"schedule": {"name": "sig+", "variant": "paper", "boundaries": [0.5]}},
            {"schedule": {"name": "sig+", "variant": "normalized", "boundaries": [0.25]}},
            [
                "(schedule.boundaries=[0.5], schedule.variant=paper)",
                "(schedule.boundaries=[0.25], schedule.variant=normalized)",
            ],
        ),
        # A new field whose default is None is no difference, and neither are these four.
        ({}, {"guard": {"loss_threshold": None}}, ["", ""]),
        ({"log_every_steps": 1}, {"log_every_steps": 2}, ["", ""]),
        ({"data": {"data_dir": "a"}}, {"data": {"data_dir": "b"}}, ["", ""]),
        ({"checkpoint": {"every_epochs": 1}}, {"checkpoint": {"every_epochs": 2}}, ["", ""]),
        ({"eval_batch_size": 1}, {"eval_batch_size": 2}, ["", ""]),
    ],
)
def test_trials_that_differ_in_a_field_are_different_methods(tmp_path, first, second, names):
    """Runs and sweeps alike: the same seed of two methods is no trial that appears twice."""
    expected = ["sig+" if not name else f"sig+ {name}" for name in names]
    seeds = (0, 1) if expected[0] == expected[1] else (0, 0)
    runs = [
        write_run(tmp_path / f"run{i}", [0.5], seed=seed, config=config)
        for i, (seed, config) in enumerate(zip(seeds, (first, second), strict=True))
    ]
    sweeps = [
        write_sweep(tmp_path / f"sweep{i}", [trial([0.5], seed=seed)], base={**RUN, **config})
        for i, (seed, config) in enumerate(zip(seeds, (first, second), strict=True))
    ]
    for directories in (runs, sweeps):
        rows = read.read(directories).rows.sort_values("source")
        assert list(rows.setting) == expected


def test_sweep_that_stores_its_trials_fields_is_compared_by_them(tmp_path):
    """The end value may follow the peak, which `base` and the setting do not say."""
    sweeps = [
        write_sweep(
            tmp_path / f"sweep{i}",
            [trial([0.5], seed=i, **{"schedule.peak_value": 0.5})],
            base={"schedule": {"peak_value": 0.1, "end_value": 0.001}},
            settings={"sig+": {"schedule.peak_value": 0.5, **fields}},
        )
        for i, fields in enumerate([{}, {"schedule.end_value": 0.005}])
    ]
    assert list(read.read(sweeps).rows.setting) == [
        "sig+ (schedule.end_value=0.001)",
        "sig+ (schedule.end_value=0.005)",
    ]
    broken = write_sweep(tmp_path / "broken", [trial([0.5])], settings={"sig": {}})
    assert rejected(broken) == (
        f"{broken / 'summary.json'} is unreadable, truncated, or lacks a field: KeyError "
        "'settings.sig+'"
    )


def test_validation_and_test_accuracies_are_kept_apart(tmp_path):
    held_out = {"data": {"name": "unused", "validation_examples": 200}}
    runs = [
        write_run(tmp_path / "a", [0.5]),
        write_run(tmp_path / "b", [0.6], config=held_out),
        write_sweep(tmp_path / "c", [trial([0.7], seed=1)], base={**RUN, **held_out}),
    ]
    rows = read.read(runs).rows.sort_values("source")
    assert list(rows.split) == ["test", "validation", "validation"]
    assert list(rows.setting) == ["sig+"] * 3


def test_chance_levels_are_those_of_each_data_set(tmp_path):
    metrics = {
        "accuracy": {"direction": "max", "percent": True, "chance": 0.1},
        "loss": {"direction": "min", "percent": False, "chance": 2.3},
    }
    sweep = write_sweep(
        tmp_path / "a",
        [trial([0.5], setting="a"), trial([0.5], setting="b", data="cifar100")],
        metrics=metrics,
        chance={"mnist": {"accuracy": 0.1}, "cifar100": {"accuracy": 0.01}},
    )
    run = write_run(tmp_path / "b", [0.5], seed=1, metrics=metrics)
    old = write_run(tmp_path / "c", [0.5], seed=2)
    assert read.read([sweep, run, old]).chance == {
        "accuracy": {"mnist": 0.1, "cifar100": 0.01},
        "loss": {"mnist": 2.3},
    }
    assert read.read([old]).chance == {"accuracy": {}, "loss": {}}
    metrics["accuracy"]["chance"] = 0.2
    other = write_run(tmp_path / "d", [0.5], seed=3, metrics=metrics)
    assert rejected(run, other).startswith("the chance level of accuracy on mnist is 0.2 in ")
