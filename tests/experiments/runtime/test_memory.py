"""A run that cannot fit into memory is refused before anything is compiled."""

import jax
import pytest

from configs import base
from experiments.build.experiment import build
from experiments.errors import UserError
from experiments.program import devices
from experiments.runtime import loop, memory
from tests.experiments.build.edits import assert_one_sentence


def experiment_of(**fields):
    config = base.get_config()
    config.data.name = "digits"
    config.model.name = "nn2"
    config.model.attention.name = "none"
    config.model.width_multiplier = 0.02
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    return build(config)


def least_bytes(experiment, num_devices=1):
    strategy = loop.parallel.make_strategy(experiment.strategy, jax.devices()[:num_devices])
    programs = loop._programs(experiment, strategy)
    test = experiment.task.load().test
    return memory.least_bytes(experiment, programs, test, num_devices=num_devices)


def test_state_and_gradient_are_counted_to_the_byte():
    # 64 x 10 + 10, 10 x 10 + 10, and 10 x 10 + 10 parameters; momentum doubles them. The steps are
    # int32, and so is the count of the schedule.
    state, largest = least_bytes(experiment_of(eval_batch_size=1))
    assert state == 2 * 4 * (650 + 110 + 110) + 4 + 4
    assert largest == 4 * (650 + 110 + 110)


@pytest.mark.parametrize("num_devices", [1, 2])
def test_scores_of_attention_are_the_largest_activation(num_devices):
    experiment = experiment_of(
        eval_batch_size=32,
        model__attention__name="beside",
        model__attention__patch_size=1,
        model__attention__width=8,
        model__attention__mlp_width=8,
    )
    # 32 images, 4 heads, and 64 tokens that attend to 64 tokens
    assert least_bytes(experiment, num_devices)[1] == 4 * 32 * 4 * 64 * 64 // num_devices


def test_run_that_does_not_fit_is_refused_and_leaves_no_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "memory_of", lambda device: 10_000)
    with pytest.raises(UserError, match=r"needs at least .* there are 1e-05 GB of memory") as error:
        loop.run(experiment_of(), tmp_path / "run")
    assert_one_sentence(error.value)
    assert not (tmp_path / "run").exists()
