"""Running a sweep: what is refused before anything runs."""

import math

import numpy as np
import pandas as pd
import pytest
from etils import epath

from configs.sweeps import digits
from experiments.build.sweeps import read_sweep
from experiments.data import datasets
from experiments.errors import UserError
from experiments.program import devices
from experiments.results import report
from experiments.runtime import workdir
from experiments.sweeping import plan, run
from tests.experiments.sweeping import small_config


def test_final_trials_are_checked_before_tuning(tmp_path):
    config = digits.get_config()
    config.seeds = (0, -1)
    directory = epath.Path(tmp_path) / "sweep"
    with pytest.raises(UserError, match=r"setting 'constant' at .*: seed=-1 is out of range"):
        run.run(read_sweep(config), directory)
    assert not directory.exists()


def test_task_that_holds_out_no_examples_is_refused_before_tuning(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "hold_out", lambda info, num_validation: info)
    directory = epath.Path(tmp_path) / "sweep"
    with pytest.raises(
        UserError, match=r"^tune\.validation_examples=200 has no effect: the task mu"
    ):
        run.run(read_sweep(digits.get_config()), directory)
    assert not directory.exists()


def test_finished_sweep_does_not_run_again(tmp_path):
    directory = epath.Path(tmp_path)
    sweep = read_sweep(digits.get_config())
    workdir.claim(directory, sweep.config)
    workdir.write_summary(directory, {"trials": 3}, files=("config.json",))
    assert run.run(sweep, directory) == ({"trials": 3}, True, "")


@pytest.mark.parametrize("num_final", [0, 150, 200, 300])
def test_final_trials_may_hold_out_examples_too(tmp_path, num_final):
    """They are then evaluated on the validation split, so that the test split stays unseen."""
    config = digits.get_config()
    config.base.data.validation_examples = num_final
    sweep = read_sweep(config)
    directory = epath.Path(tmp_path)
    workdir.claim(directory, sweep.config)
    workdir.write_summary(directory, {"trials": 3}, files=("config.json",))
    assert run.run(sweep, directory) == ({"trials": 3}, True, "")


def test_sweep_of_trials_that_do_not_fit_is_refused_and_leaves_no_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "memory_of", lambda device: 1000)
    with pytest.raises(UserError, match=r"the run needs at least .* there are 1e-06 GB of memory"):
        run.run(read_sweep(digits.get_config()), epath.Path(tmp_path / "sweep"))
    assert not (tmp_path / "sweep").exists()


def test_each_process_needs_memory_for_a_trial(monkeypatch):
    monkeypatch.setattr(devices, "memory_of", lambda device: 10**9)
    sweep = read_sweep(digits.get_config())
    point = {"schedule.peak_value": 0.1}
    final = plan.final_trials(sweep, dict.fromkeys(sweep.settings, point))[:1]
    run._check_memory(final, 1)
    with pytest.raises(UserError, match=r"there are 1 GB of memory; .*, or use fewer processes$"):
        run._check_memory(final, 10**4)


def test_directory_of_another_sweep_is_refused(tmp_path):
    directory = epath.Path(tmp_path)
    workdir.claim(directory, read_sweep(digits.get_config()).config)
    config = digits.get_config()
    config.seeds = (0, 1)
    with pytest.raises(UserError, match=r"belongs to .* another config \(seeds="):
        run.run(read_sweep(config), directory)
    assert not (directory / "blocks").exists()


def test_sweep_has_the_metrics_of_averaged_weights_and_a_report_shows_them(tmp_path):
    """The cycles of one setting end after an epoch, and those of the other after two."""
    config = small_config.get_config()
    config.grid = ()
    config.settings = tuple(
        {
            "name": name,
            "schedule.name": "cyclical_cosine",
            "schedule.init_decay_epochs": epochs,
            "schedule.restart_interval_epochs": epochs,
        }
        for name, epochs in (("short", 1.0), ("long", 2.0))
    )
    config.block_size = 4
    config.base.averaging.update(ema_decay=0.9, swa_start_epoch=3, cycle_snapshots=True)
    run.run(read_sweep(config), epath.Path(tmp_path / "sweep"))
    rows = pd.read_csv(tmp_path / "sweep" / "trials.csv").set_index(["setting", "seed", "epoch"])
    assert not rows.diverged.any()
    for (setting, _, epoch), row in rows.iterrows():
        assert math.isfinite(row.test_ema_loss)
        assert math.isfinite(row.test_swa_loss) == (epoch == 3)
        assert math.isfinite(row.test_snapshot_loss) == (epoch >= 2 or setting == "short")
    at_ends = rows.loc[[("short", 0, 1.0), ("long", 1, 2.0)]]
    assert list(at_ends.test_snapshot_loss) == list(at_ends.test_loss)
    assert rows.loc[("long", 1, 3.0)].test_snapshot_loss == at_ends.test_loss.iloc[1]

    report.write([tmp_path / "sweep"], tmp_path / "report")
    table = pd.read_csv(tmp_path / "report" / "digits_weights.csv")
    assert list(table.method) == 4 * ["long"] + 4 * ["short"]
    assert list(table.weights) == 2 * ["last", "ema", "swa", "snapshot"]
    final = rows.xs(3.0, level="epoch")
    expected = [
        100 * final.loc[method][column].mean()
        for method in ("long", "short")
        for column in (f"test_{kind}accuracy" for kind in ("", "ema_", "swa_", "snapshot_"))
    ]
    shown = [float(cell.split(" ")[0]) for cell in table.accuracy]
    assert shown == pytest.approx(expected, abs=0.006)
    differences = [float(cell.split(" ")[0]) for cell in table["difference from last"][1:4]]
    assert differences == pytest.approx(np.subtract(expected[1:4], expected[0]), abs=0.006)


def test_setting_that_restarts_in_its_last_steps_is_named_once(capsys):
    config = digits.get_config()
    config.base.epochs = 26.0
    config.base.batch_size = 32
    config.tune.validation_examples = 277
    cycles = {
        "schedule.name": "cyclical_cosine",
        "schedule.warmup_epochs": 0.0,
        "schedule.init_decay_epochs": 5.2,
        "schedule.restart_interval_epochs": 5.2,
    }
    config.settings = (
        {"name": "late", **cycles},
        {"name": "held", **cycles, "schedule.options.num_cycles": 5},
    )
    sweep = read_sweep(config)
    tuning = plan.tuning_trials(sweep)
    run._warn_of_late_restarts([*tuning, *plan.final_trials(sweep, {"late": {}, "held": {}})])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: in tuning, setting 'late' restarts at step 935 of 936, so")
