"""A run that reads its data from disk equals the run that has them in memory."""

import json
import shutil

import pytest
from etils import epath

from experiments.errors import UserError
from experiments.program import blocks
from experiments.runtime import loop
from tests.experiments.build.edits import assert_one_sentence
from tests.experiments.runtime.lives import result
from tests.experiments.runtime.streamed import small_experiment, write_small


@pytest.fixture(scope="module", autouse=True)
def cache_home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data directory with a small data set in array_record files."""
    root = tmp_path_factory.mktemp("root")
    write_small(root)
    return root


def outcome(workdir):
    """Returns the hash of the parameters, and the history without times."""
    params_sha256, metrics = result(workdir)
    records = [json.loads(line) for line in metrics.splitlines()]
    return params_sha256, records


@pytest.fixture(scope="module")
def in_memory(root, tmp_path_factory):
    workdir = epath.Path(tmp_path_factory.mktemp("memory"))
    loop.run(small_experiment(root, "memory"), workdir)
    return outcome(workdir)


def test_streamed_run_equals_the_run_in_memory(root, in_memory, tmp_path, capsys):
    loop.run(small_experiment(root, "stream"), epath.Path(tmp_path))
    assert outcome(tmp_path) == in_memory
    assert "the data set is streamed from disk: data.loading says so" in capsys.readouterr().err


@pytest.mark.slow
def test_run_whose_blocks_hold_one_batch_has_the_same_parameters(
    root, in_memory, tmp_path, monkeypatch
):
    monkeypatch.setattr(blocks, "MAX_BYTES", 1)
    loop.run(small_experiment(root, "stream"), epath.Path(tmp_path))
    assert outcome(tmp_path)[0] == in_memory[0]


@pytest.fixture
def damaged_root(root, tmp_path):
    """A copy of the data directory in which one training image is damaged."""
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    file = copy / "my_own" / "1.0.0" / "my_own-train.array_record-00000-of-00003"
    content = bytearray(file.read_bytes())
    content[content.index(b"\x89PNG") + 60] ^= 1
    file.write_bytes(content)
    return copy


def test_damaged_image_ends_the_run_with_its_file_and_its_index(damaged_root, tmp_path):
    message = "example 0 of .*my_own-train.array_record-00000-of-00003 .* cannot be read"
    with pytest.raises(UserError, match=message) as error:
        loop.run(small_experiment(damaged_root, "stream"), epath.Path(tmp_path / "run"))
    assert_one_sentence(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_damaged_image_may_be_replaced_and_is_counted(damaged_root, tmp_path):
    experiment = small_experiment(damaged_root, "stream", **{"data.max_damaged": 1})
    summary, _ = loop.run(experiment, epath.Path(tmp_path / "run"))
    assert summary["damaged_examples"] == 1
    # Every other example is there, and the run resumes with the same count.
    shutil.rmtree(tmp_path / "run" / "checkpoints" / str(summary["steps"]))
    (tmp_path / "run" / "summary.json").unlink()
    again, was_finished = loop.run(experiment, epath.Path(tmp_path / "run"))
    assert not was_finished
    assert again["params_sha256"] == summary["params_sha256"]
    assert again["damaged_examples"] == 1
