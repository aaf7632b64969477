"""The sweep of the trials benchmark."""

from benchmarks import trials
from experiments.build.sweeps import read_sweep
from experiments.sweeping import plan
from experiments.sweeping.trials import program_of


def test_sweep_has_forty_trials_in_one_program():
    names = {}
    exec(trials.sweep_config(epochs=1.0, data="digits"), names)
    sweep = read_sweep(names["get_config"]())
    final = plan.final_trials(sweep, {name: {} for name in sweep.settings})
    assert len(final) == 40
    assert {(trial.setting, trial.experiment.seed) for trial in final} == {
        (schedule, seed) for schedule in trials.SCHEDULES for seed in trials.SEEDS
    }
    assert len({program_of(trial.experiment) for trial in final}) == 1


def test_python_loop_trains_every_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "SCHEDULES", ("constant", "cosine"))
    monkeypatch.setattr(trials, "SEEDS", (3,))
    file = tmp_path / "sweep.py"
    file.write_text(trials.sweep_config(epochs=2.0, data="digits"))
    first, second = (metrics.compute() for metrics in trials.loop(str(file)))
    assert first["accuracy"] > 0.5
    assert second["accuracy"] > 0.5
    assert first["loss"] != second["loss"]  # their schedules differ
