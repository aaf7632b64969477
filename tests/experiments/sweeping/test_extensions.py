"""A grid that grows: as if it had been that large from the start, however the sweep was run."""

import contextlib
import functools
import json
import os
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
from etils import epath

from experiments.build.sweeps import read_sweep
from experiments.errors import Stopped
from experiments.results import read, report
from experiments.runtime import signals
from experiments.sweeping import blocks, plan, run
from experiments.sweeping.shard import Shard
from tests.experiments.runtime.lives import Life
from tests.experiments.sweeping import small_config
from tests.experiments.sweeping.one_device import one_device

PEAK = "schedule.peak_value"
TRIAL = ["phase", "setting", PEAK, "seed"]
FIRST, SECOND = Shard(1, 2), Shard(2, 2)
CORES = sorted(os.sched_getaffinity(0))


def get_config(values=(0.1, 0.2), max_extensions=3):
    """Returns a sweep whose best peak is above the grid, which so grows twice."""
    config = small_config.get_config()
    config.grid = ({"field": PEAK, "values": values},)
    config.tune.seeds = (100, 101)
    config.tune.selection = "one_standard_error"
    config.tune.max_extensions = max_extensions
    return config


sweep = functools.cache(lambda: read_sweep(get_config()))


def run_sweep(directory, *, share=run.WHOLE):
    return run.run(sweep(), epath.Path(directory), share=share)


def table(directory):
    return (directory / "trials.csv").read_bytes()


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def _one_device():
    with one_device():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns the directory of the sweep, run at once."""
    directory = tmp_path_factory.mktemp("whole")
    assert run_sweep(directory).summary is not None
    return directory


def test_grid_grows_for_all_settings_while_a_best_mean_is_at_its_edge(whole):
    assert summary(whole)["grid"] == [{"field": PEAK, "values": [0.1, 0.2, 0.4, 0.8]}]
    assert {path.name for path in (whole / "blocks").iterdir()} == {
        *("tune-0", "tune-extended-1-0", "tune-extended-2-0", "final-0")
    }
    rows = pd.read_csv(whole / "trials.csv")
    tuned = rows[(rows.phase == "tune") & (rows.epoch == 3)]
    means = tuned.groupby([PEAK, "setting"]).test_accuracy.mean().unstack()
    for edge in (0.2, 0.4):
        assert edge in set(means[means.index <= edge].idxmax())
    assert not {0.1, 0.8} & set(means.idxmax())
    trials = set(tuned[["setting", PEAK, "seed"]].itertuples(index=False, name=None))
    assert trials == {
        (setting, peak, seed)
        for setting in ("constant", "cosine")
        for peak in (0.1, 0.2, 0.4, 0.8)
        for seed in (100, 101)
    }


def test_choice_is_the_middle_point_within_one_standard_error(whole):
    rows = pd.read_csv(whole / "trials.csv")
    tuned = rows[(rows.phase == "tune") & (rows.epoch == 3)]
    for setting, of in tuned.groupby("setting"):
        scores = of.pivot(index=PEAK, columns="seed", values="test_accuracy")
        # No better than chance, so scored as chance, and not in the pool.
        failed = scores < 0.1 + 0.05 * 0.9
        scores = scores.mask(failed, 0.1)
        differences = (scores[100] - scores[101])[~failed.any(axis=1)]
        error = np.sqrt((differences**2 / 2).mean() / 2)
        means = scores.mean(axis=1)
        near = list(means.index[means >= means.max() - error])
        peak = near[(len(near) - 1) // 2]
        assert summary(whole)["chosen"][setting] == {PEAK: peak}
        final = rows[(rows.phase == "final") & (rows.setting == setting)]
        assert set(final[PEAK]) == {peak}


def test_trials_are_those_of_a_grid_that_was_as_large_from_the_start(whole, tmp_path):
    (axis,) = summary(whole)["grid"]
    declared = read_sweep(get_config(tuple(axis["values"]), max_extensions=0))
    run.run(declared, epath.Path(tmp_path))
    grown, at_once = (
        pd.read_csv(directory / "trials.csv").sort_values([*TRIAL, "step"], ignore_index=True)
        for directory in (whole, tmp_path)
    )
    pd.testing.assert_frame_equal(grown, at_once, check_exact=True)
    kept = ("trials", "diverged", "chosen", "settings", "grid")
    assert [summary(whole)[name] for name in kept] == [summary(tmp_path)[name] for name in kept]


def test_report_shows_the_points_by_which_the_grid_grew(whole, tmp_path):
    report.write([whole], tmp_path)
    shown = pd.read_csv(_tuning(tmp_path))
    assert sorted(shown[PEAK]) == [0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.8, 0.8]
    assert list(shown.chosen).count("yes") == 2
    text = (tmp_path / "report.md").read_text()
    assert "the middle one of all points whose mean is within one standard error" in text


def stop(directory, num_dispatches):
    """Runs the sweep until a SIGTERM after a number of dispatches, which are epochs."""
    calls = []

    @contextlib.contextmanager
    def caught():
        yield lambda: signal.SIGTERM if len(calls) == num_dispatches else calls.append(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, "caught", caught)
        with pytest.raises(Stopped):
            run_sweep(directory)


@pytest.mark.parametrize("extension", [1, 2])
def test_sweep_that_is_stopped_in_an_extension_goes_on_where_it_was(
    whole, tmp_path, monkeypatch, extension
):
    """Each stage has 8 or 4 trials in blocks of 2, and each block has 3 dispatches."""
    stop(tmp_path, 12 + 6 * (extension - 1) + 5)
    stage = f"tune-extended-{extension}-0"
    unfinished = tmp_path / "blocks" / stage
    assert (unfinished / "0.json").exists()
    assert (unfinished / "2" / "checkpoints").is_dir()
    assert not (unfinished / "2.json").exists()
    trained = []
    train = blocks.Trainer.train

    def recorded(self, job, advance):
        steps = []
        train(self, job, steps.append)
        trained.append((job.name, steps[0] // len(job.trials)))

    monkeypatch.setattr(blocks.Trainer, "train", recorded)
    run_sweep(tmp_path)
    assert table(tmp_path) == table(whole)
    steps_per_epoch = 1237 // 256
    later = [f"tune-extended-{number}-0" for number in range(extension + 1, 3)]
    assert trained == [
        (f"{stage}/2.json", 2 * steps_per_epoch),  # from its checkpoint
        *((f"{name}/{start}.json", 0) for name in [*later, "final-0"] for start in (0, 2)),
    ]


def test_shards_of_one_directory_grow_the_grid_like_the_whole_sweep(whole, tmp_path):
    """Each shard stops where it lacks blocks of the other, and names it."""
    for share, other in ((FIRST, 2), (SECOND, 1), (FIRST, 2)):  # the grid, and two extensions
        assert run_sweep(tmp_path, share=share).missing.startswith(
            f"the final trials of shard {share} need the tuning trials of shard {other} too, which"
        )
    assert "lacks the final trials of shard 1;" in run_sweep(tmp_path, share=SECOND).missing
    assert run_sweep(tmp_path, share=FIRST).summary is not None
    assert table(tmp_path) == table(whole)
    assert summary(tmp_path)["grid"] == summary(whole)["grid"]


def test_shards_of_two_directories_are_reported_as_the_whole_sweep(whole, tmp_path):
    directories = tmp_path / "first", tmp_path / "second"
    for _ in range(4):  # three stages of tuning, and the final trials
        for directory, share in zip(directories, (FIRST, SECOND), strict=True):
            assert run_sweep(directory, share=share).summary is None
        if (directories[0] / "blocks" / "final-0").exists():
            break
        for source, target in (directories, directories[::-1]):
            shutil.copytree(source / "blocks", target / "blocks", dirs_exist_ok=True)
    merged, wanted = read.read(directories), read.read([whole])
    pd.testing.assert_frame_equal(
        merged.rows.drop(columns="source"), wanted.rows.drop(columns="source")
    )
    for name, directory in (("merged", directories), ("whole", [whole])):
        report.write(list(directory), tmp_path / name)
    assert _tuning(tmp_path / "merged").read_bytes() == _tuning(tmp_path / "whole").read_bytes()


def _tuning(directory):
    (file,) = directory.glob("*_tuning.csv")
    return file


def test_grid_stops_at_the_edge_of_a_fields_range(whole, tmp_path, monkeypatch):
    """The finished blocks of the grid count, and the first extension is refused as any value."""
    shutil.copytree(whole / "blocks" / "tune-0", tmp_path / "blocks" / "tune-0")
    allowed = plan._is_allowed
    monkeypatch.setattr(
        plan, "_is_allowed", lambda sweep, point: allowed(sweep, {PEAK: 1e7 * point[PEAK]})
    )
    ended = run_sweep(tmp_path).summary
    assert ended["grid"] == [{"field": PEAK, "values": [0.1, 0.2]}]


@pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")
def test_two_processes_that_are_killed_in_an_extension_resume_to_the_table_of_one(tmp_path):
    options = ("--config.tune.max_extensions=1", "--config.block_size=1", "--config.seeds=(0,)")
    command = functools.partial(Life, command="experiments.sweep")
    with command(tmp_path / "one", *options, cores=CORES[:1]) as life:
        assert life.wait() == 0, life.errors()
    two = functools.partial(command, tmp_path / "two", *options, "--processes=2", cores=CORES[:2])
    extension = tmp_path / "two" / "blocks" / "tune-extended-1-0"
    with two() as life:
        life.wait_for(lambda: any(extension.glob("*/checkpoints/[0-9]*")))
        life.send(signal.SIGKILL)
        assert life.wait() == -signal.SIGKILL
    assert not (tmp_path / "two" / "blocks" / "final-0").exists()
    with two() as life:
        assert life.wait() == 0, life.errors()
        assert life.errors() == ""
    assert table(tmp_path / "two") == table(tmp_path / "one")
    assert {path.name for path in extension.glob("*.json")} == {"plan.json", "0.json", "1.json"}
    grid = [{"field": PEAK, "values": [0.2, 0.4, 0.8]}]
    assert [summary(tmp_path / name)["grid"] for name in ("one", "two")] == [grid, grid]
