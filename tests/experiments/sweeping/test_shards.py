"""Shards of a sweep, in one directory or in several, end with the table of the whole sweep."""

import functools
import json
import os
import re
import shutil

import jax
import pandas as pd
import pytest
from etils import epath

from experiments import sealed
from experiments.build.sweeps import read_sweep
from experiments.errors import UserError
from experiments.results import read, report
from experiments.runtime import environment
from experiments.sweeping import blocks, run
from experiments.sweeping.shard import Shard
from tests.experiments.sweeping.one_device import one_device
from tests.experiments.sweeping.small_config import get_config

sweep = functools.cache(lambda: read_sweep(get_config()))
FIRST, SECOND = Shard(1, 2), Shard(2, 2)


def run_shard(directory, share):
    return run.run(sweep(), epath.Path(directory), share=share)


def without_times(summary):
    """Returns a summary without what differs between two runs of one sweep."""
    return {name: of for name, of in summary.items() if name not in ("seconds", "files", "sha256")}


@pytest.fixture(scope="module", autouse=True)
def _one_device():
    with one_device():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns the directory of the sweep in one process, which is no shard."""
    directory = tmp_path_factory.mktemp("whole")
    assert run.run(sweep(), epath.Path(directory)).summary is not None
    return directory


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """Returns the directories of two shards, each of which was given the other's tuning blocks."""
    first, second = directories = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    for directory, share, other in ((first, FIRST, 2), (second, SECOND, 1)):
        end = run_shard(directory, share)
        assert end.summary is None
        assert end.missing.startswith(
            f"the final trials of shard {share} need the tuning trials of shard {other} too, which "
            f"{directory} lacks: run the same command again when they are done"
        )
    for source, target in (directories, directories[::-1]):
        shutil.copytree(source / "blocks", target / "blocks", dirs_exist_ok=True)
    for directory, share in ((first, FIRST), (second, SECOND)):
        end = run_shard(directory, share)
        assert end.summary is None
        assert f"lacks the final trials of shard {3 - share.number}; when they" in end.missing
    return directories


@pytest.fixture
def copies(apart, tmp_path):
    """Returns copies of both directories, to be damaged."""
    return [shutil.copytree(each, tmp_path / each.name) for each in apart]


def test_shards_in_one_directory_end_with_the_table_of_the_whole_sweep(whole, tmp_path):
    """The second finds all tuning blocks, and so goes on; the first goes on when it starts again.

    The last one writes the summary, and any later start finds the finished sweep.
    """
    assert "tuning trials of shard 2 too" in run_shard(tmp_path, FIRST).missing
    assert "lacks the final trials of shard 1;" in run_shard(tmp_path, SECOND).missing
    end = run_shard(tmp_path, FIRST)
    assert (tmp_path / "trials.csv").read_bytes() == (whole / "trials.csv").read_bytes()
    wanted = json.loads((whole / "summary.json").read_text())
    assert without_times(end.summary) == without_times(wanted)
    assert run_shard(tmp_path, SECOND).was_finished


def test_blocks_count_that_another_shard_finishes_meanwhile(whole, tmp_path, monkeypatch):
    train = blocks.Trainer.train

    def train_beside_another(self, job, advance):
        train(self, job, advance)
        other = f"blocks/{job.file.parent.name}/2.json"
        shutil.copy(whole / other, tmp_path / other)

    monkeypatch.setattr(blocks.Trainer, "train", train_beside_another)
    assert run_shard(tmp_path, FIRST).summary is not None
    assert (tmp_path / "trials.csv").read_bytes() == (whole / "trials.csv").read_bytes()


def test_shards_in_several_directories_are_reported_as_one_sweep(whole, apart):
    merged, wanted = read.read(apart), read.read([whole])
    assert set(merged.rows.source) == {f"{apart[0]} + {apart[1]}"}
    pd.testing.assert_frame_equal(
        merged.rows.drop(columns="source"), wanted.rows.drop(columns="source")
    )
    assert merged.configs == wanted.configs
    assert list(merged.sources.source) == [
        f"{apart[0]} (shard 1/2)",
        f"{apart[1]} (shard 2/2)",
    ]
    assert list(merged.sources.trials) == [4, 4]
    text = report.make(merged)["report.md"].decode()
    assert "8 trials in " in text
    assert "different environments" not in text


def test_directories_copied_together_are_one_finished_sweep(whole, copies):
    """The files of shards have different names, so one directory may take them all."""
    shutil.copytree(copies[0], copies[1], dirs_exist_ok=True)
    pd.testing.assert_frame_equal(
        read.read([copies[1]]).rows.drop(columns="source"),
        read.read([whole]).rows.drop(columns="source"),
    )
    assert run_shard(copies[1], FIRST).summary is not None
    assert (copies[1] / "trials.csv").read_bytes() == (whole / "trials.csv").read_bytes()


def reseal(file, change):
    """Changes a sealed file as its command might have written it."""
    content = sealed.loads(file.read_text())
    change(content)
    file.write_text(sealed.dumps(content))


def test_shards_from_different_environments_are_named(copies):
    reseal(copies[1] / "shard-2-of-2.json", lambda content: content.update(threads=77))
    text = report.make(read.read(copies))["report.md"].decode()
    (line,) = [line for line in text.splitlines() if "come from different environments" in line]
    assert re.search(r"threads is \d+ in \S+ \(shard 1/2\), 77 in \S+ \(shard 2/2\)\.$", line)


def test_shards_from_different_environments_in_one_directory_are_changes(copies):
    shutil.copytree(copies[0], copies[1], dirs_exist_ok=True)
    environments = copies[1] / "environment-1-of-2.json"
    reseal(environments, lambda content: content["environment"].update(threads=77))
    summary = run_shard(copies[1], SECOND).summary
    threads = environment.environment()["threads"]
    assert summary["environment_changes"] == [{"step": 0, "changed": {"threads": [77, threads]}}]


def first_row(content):
    content["rows"][0]["train_loss"] += 1.0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda first, second: shutil.rmtree(second),
            r"the sweep in \S+first\d lacks shard 2 of 2: pass the directories of all its shards",
        ),
        (
            lambda first, second: (second / "shard-2-of-2.json").unlink(),
            r"second\d is unfinished: it has neither trials\.csv \(sweep\) nor metrics\.jsonl",
        ),
        (
            lambda first, second: reseal(
                second / "shard-2-of-2.json", lambda content: content["config"].update(seeds=[7])
            ),
            r"first\d and \S+second\d are shards of different sweeps, "
            "which differ in seeds, and not",
        ),
        (
            lambda first, second: reseal(
                second / "shard-2-of-2.json", lambda content: content["blocks"].pop()
            ),
            r"shard-2-of-2\.json list different blocks of one sweep, so they were cut or tuned",
        ),
        (
            lambda first, second: reseal(second / "blocks" / "tune-0" / "0.json", first_row),
            r"tune-0/0\.json have different results of the same trials; keep one of them",
        ),
        (
            lambda first, second: (second / "blocks" / "final-0" / "2.json").write_text("{}"),
            r"second\d/blocks/final-0/2\.json is damaged \(its content does not match its sha256\)",
        ),
        (
            lambda first, second: (second / "blocks" / "final-0" / "2.json").unlink(),
            r"lacks the block final-0/2\.json, although the command of its shard ended; run that",
        ),
        (
            lambda first, second: shutil.copy(
                second / "blocks" / "final-0" / "2.json", first / "blocks" / "final-0" / "0.json"
            ),
            r"final-0/0\.json is damaged \(it belongs to other trials\)",
        ),
        (
            lambda first, second: (second / "shard-2-of-2.json").write_text("{}"),
            r"shard-2-of-2\.json is damaged \(its content does not match its sha256\); run the co",
        ),
    ],
    ids=lambda value: None if callable(value) else value[:30],
)
def test_shards_that_are_no_whole_sweep_are_refused(copies, damage, message):
    damage(*copies)
    with pytest.raises(UserError, match=message):
        read.read([each for each in copies if each.exists()])


def test_block_of_another_shard_is_left_to_it(copies, capsys):
    block = copies[0] / "blocks" / "tune-0" / "2.json"
    block.write_text("{}")
    assert "need the tuning trials of shard 2 too" in run_shard(copies[0], FIRST).missing
    assert capsys.readouterr().err == (
        f"warning: {block} is damaged (its content does not match its sha256); its shard must run "
        "its trials again\n"
    )


def test_accelerator_needs_the_size_of_the_blocks(tmp_path, monkeypatch):
    class Device:
        platform = "gpu"

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    config = get_config()
    config.block_size = None
    with pytest.raises(
        UserError, match=r"^--shard=1/2 needs the number of trials per block on a g"
    ):
        run.run(read_sweep(config), epath.Path(tmp_path), share=FIRST)
    assert os.listdir(tmp_path) == []
