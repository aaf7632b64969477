"""The profiler traces exactly the steps of its window."""

import gzip
import json

import pytest
from etils import epath

from experiments.errors import UserError
from experiments.runtime import loop, profiler
from experiments.runtime.profiler import Window
from tests.experiments.runtime.small import small_experiment


@pytest.mark.parametrize("text", ["", "5", "5:5", "6:5", "-1:5", "a:b", "1:2:3", "1.5:2", " 1:2"])
def test_invalid_window_is_refused(text):
    with pytest.raises(UserError, match="is not a range of steps; use FIRST:END, such as 100:110"):
        profiler.parse_window(text)


def num_dispatches(workdir):
    """Returns the number of times that a trace records the training program by its name."""
    (file,) = workdir.glob("plugins/profile/*/*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    return sum("train_steps" in event.get("name", "") for event in events)


def test_trace_contains_the_window_and_does_not_change_the_run(tmp_path):
    """5 steps run in dispatches of 3: one window splits a dispatch, the other has only the last."""
    # The run without a trace comes first: a trace of TensorFlow's import would drop other events.
    plain, _ = loop.run(small_experiment(), epath.Path(tmp_path / "plain"))
    inside, _ = loop.run(small_experiment(), epath.Path(tmp_path / "inside"), Window(1, 4))
    across, _ = loop.run(small_experiment(), epath.Path(tmp_path / "across"), Window(4, 9))
    assert inside["params_sha256"] == across["params_sha256"] == plain["params_sha256"]
    assert not (tmp_path / "plain" / "plugins").exists()
    assert num_dispatches(tmp_path / "inside") == 2 * num_dispatches(tmp_path / "across") > 0


def test_window_beyond_the_run_is_refused(tmp_path):
    with pytest.raises(
        UserError, match="--profile_steps=5:9 begins after the last step of the run, 4"
    ):
        loop.run(small_experiment(), epath.Path(tmp_path), Window(5, 9))
    assert not any(tmp_path.iterdir())
