"""The steps of which a trace is written."""

import gzip
import json
from collections import Counter

import pytest
from etils import epath

from configs import quickstart
from experiments import run, window
from experiments.errors import UserError
from experiments.window import Window


@pytest.mark.parametrize("text", ["", "5", "5:5", "6:5", "-1:5", "a:b", "1:2:3", "1.5:2", " 1:2"])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(UserError, match="is no window of steps; it must be FIRST:END, such as"):
        window.parse(text)


def config():
    small = quickstart.get_config()
    small.update(epochs=1.0, batch_size=256, log_every_steps=3)
    small.data.image_size = 8
    small.model.update(name="nn2", width_multiplier=0.02)
    small.model.attention.name = "none"
    return small


def dispatches(workdir):
    """How many events of a trace are calls of the training program: as many for every call."""
    (file,) = workdir.glob("plugins/profile/*/*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    return Counter(event.get("name") for event in events)["PjitFunction(train_steps)"]


def test_the_trace_has_the_steps_of_the_window_and_the_run_is_the_same(tmp_path):
    """Of 5 steps in dispatches of 3, the first window cuts one in two, the second has the last."""
    plain, _ = run.run(config(), epath.Path(tmp_path / "plain"))
    inside, _ = run.run(config(), epath.Path(tmp_path / "inside"), Window(1, 4))
    across, _ = run.run(config(), epath.Path(tmp_path / "across"), Window(4, 9))
    assert inside["params_sha256"] == across["params_sha256"] == plain["params_sha256"]
    assert not (tmp_path / "plain" / "plugins").exists()
    assert dispatches(tmp_path / "inside") == 2 * dispatches(tmp_path / "across") > 0


def test_a_window_beyond_the_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="--profile_steps=5:9 begins after the run's last step, 4"):
        run.run(config(), epath.Path(tmp_path), Window(5, 9))
    assert not any(tmp_path.iterdir())
