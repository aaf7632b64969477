"""The best checkpoint stays beside the newest."""

import pytest

from experiments.errors import UserError
from experiments.runtime import checkpoint
from tests.experiments.runtime.test_checkpoint import (
    names,
    open_checkpoints,
    record_at,
    shapes,
    state_at,
    write,
)


def test_best_checkpoint_stays_beside_the_newest(tmp_path):
    def save(checkpointer, step, best):
        record = {**record_at(step), "best": {"step": best, "value": 0.5}}
        checkpointer.save(step, state_at(step, seed=step), record, best=best)

    with open_checkpoints(tmp_path) as checkpointer:
        for step, best in enumerate((1, 2, 2, 2, 2), start=1):
            save(checkpointer, step, best)
    assert names(tmp_path / "checkpoints") == ["2", "4", "5"]
    with open_checkpoints(tmp_path) as checkpointer:
        assert int(checkpointer.restore_latest(shapes())[0].step) == 5
        state, _ = checkpointer.restore_best(shapes())
        assert int(state.step) == 2
        save(checkpointer, 6, 6)
    assert names(tmp_path / "checkpoints") == ["5", "6"]
    with open_checkpoints(tmp_path) as checkpointer:
        assert int(checkpointer.restore_best(shapes())[0].step) == 6
        save(checkpointer, 7, 6)
        save(checkpointer, 8, 6)
    (tmp_path / "checkpoints" / "6" / checkpoint.SEAL).unlink()
    with (
        open_checkpoints(tmp_path) as checkpointer,
        pytest.raises(UserError, match=r"the best checkpoint .*/6 is damaged \(sha256.json is mi"),
    ):
        checkpointer.restore_best(shapes())


def test_run_without_a_best_checkpoint_is_refused(tmp_path):
    with open_checkpoints(tmp_path) as checkpointer:
        assert checkpointer.restore_best(shapes()) is None
    write(tmp_path, 1)
    with (
        open_checkpoints(tmp_path) as checkpointer,
        pytest.raises(UserError, match=r"has no best checkpoint; the run needs checkpoint.keep_be"),
    ):
        checkpointer.restore_best(shapes())
