"""The summary of a run: which values mark it as diverged."""

import math

from experiments.runtime import summary
from tests.experiments.runtime.small import small_experiment


def test_an_average_that_is_not_finite_does_not_mark_the_run(capsys):
    experiment = small_experiment(**{"averaging.ema_decay": 0.9})
    record = {"step": 5, "test_loss": 1.0, "test_ema_loss": math.inf}
    summary.warn_of_divergence(experiment, [record])
    assert capsys.readouterr().err == ""
    summary.warn_of_divergence(experiment, [record | {"test_loss": math.nan}])
    assert "diverged: test_loss at step 5 is not finite" in capsys.readouterr().err
