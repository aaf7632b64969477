"""A run can begin with the weights of another one, with a new head where the classes differ."""

import json
import shutil

import numpy as np
import pytest
from etils import epath

import experiments
from experiments.errors import UserError
from experiments.runtime import initial, loop
from tests.experiments.runtime.lives import result
from tests.experiments.runtime.small import small_experiment

# A learning rate that changes nothing shows the weights that a run began with.
STILL = {"schedule.name": "constant", "schedule.peak_value": 1e-30, "optimizer.weight_decay": 0.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = epath.Path(tmp_path_factory.mktemp("source"))
    loop.run(small_experiment(), directory)
    return directory


def params_of(directory):
    return experiments.load(directory).variables["params"]


def flat(params):
    return {
        f"{layer}/{name}": np.asarray(array)
        for layer, arrays in {**params["backbone"], "head": params["head"]}.items()
        for name, array in arrays.items()
    }


def test_run_begins_with_the_weights_of_another(source, tmp_path, capsys):
    fields = {**STILL, "seed": 7, "averaging.ema_decay": 0.5, "init_from": str(source)}
    run = epath.Path(tmp_path / "run")
    summary, _ = loop.run(small_experiment(**fields), run)
    theirs, ours = (flat(params_of(directory)) for directory in (source, run))
    assert theirs.keys() == ours.keys()
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-6, err_msg=name)
    before = json.loads((source / "summary.json").read_text())
    assert summary["test_accuracy"] == pytest.approx(before["test_accuracy"], abs=1e-6)
    assert summary["test_ema_loss"] == pytest.approx(before["test_loss"], rel=1e-5)
    assert summary["init_from"] == {
        **{"workdir": str(source), "step": 5, "replaced": []},
        "params_sha256": before["params_sha256"],
    }
    line = f"the run begins with the weights of {source} at step 5"
    assert line in capsys.readouterr().err.splitlines()
    with pytest.raises(UserError, match=r"init_from=.*, not None"):
        loop.run(small_experiment(**{**fields, "init_from": None}), run)


@pytest.mark.slow
def test_run_resumes_bit_for_bit_without_the_other_one(source, tmp_path, monkeypatch):
    """It is stopped before its first checkpoint, and its source is deleted."""
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    experiment = small_experiment(epochs=2.0, seed=7, init_from=str(copy))
    loop.run(experiment, epath.Path(tmp_path / "undisturbed"))
    run = epath.Path(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train_epochs", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            loop.run(experiment, run)
    shutil.rmtree(copy)
    loop.run(experiment, run)
    assert result(run) == result(tmp_path / "undisturbed")


@pytest.mark.slow
def test_head_is_new_where_the_classes_differ(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(initial, "_classes", lambda experiment: ("a", "b"))
    run = epath.Path(tmp_path)
    summary, _ = loop.run(small_experiment(**STILL, seed=7, init_from=str(source)), run)
    replaced = ["params/head/bias", "params/head/kernel"]
    assert summary["init_from"]["replaced"] == replaced
    errors = capsys.readouterr().err
    assert f"; new parameters, because the classes differ: {', '.join(replaced)}\n" in errors
    theirs, ours = (flat(params_of(directory)) for directory in (source, run))
    np.testing.assert_allclose(ours["fc1/kernel"], theirs["fc1/kernel"], rtol=1e-6)
    assert np.abs(ours["head/kernel"] - theirs["head/kernel"]).max() > 0.01


def test_other_weights_are_refused_before_the_directory_is_claimed(source, tmp_path):
    def refusal(directory=tmp_path / "run", **fields):
        with pytest.raises(UserError) as error:
            loop.run(small_experiment(**fields), epath.Path(directory))
        assert "\n" not in str(error.value)
        return str(error.value)

    wider = {"init_from": str(source), "model.width_multiplier": 0.04}
    message = "has other weights: params/backbone/fc1/bias is (10,) there and (20,) here; use the s"
    assert message in refusal(**wider)
    assert "nowhere is not the directory of a run" in refusal(init_from=str(tmp_path / "nowhere"))
    run = tmp_path / "run"
    assert f"init_from={str(run)!r} is the --workdir of this run" in refusal(init_from=str(run))
    assert not run.exists()
