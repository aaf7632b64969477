"""The config of a language model: its task, and one sentence for what cannot be used."""

import jax
import numpy as np
import pytest

from configs import language_model
from experiments.build.experiment import build
from experiments.data import markov
from experiments.errors import UserError
from experiments.program import assemble, parallel
from tests.experiments.build.edits import assert_one_sentence

TINY = {
    **{"data.context_length": 8, "model.num_layers": 1, "model.num_heads": 2, "model.width": 8},
    **{"batch_size": 512, "eval_batch_size": 3, "log_every_steps": 64},
}


def experiment_of(text="markov", **fields):
    config = language_model.get_config(text)
    fields = TINY | fields
    config.update_from_flattened_dict(fields)
    return build(config, list(fields))


def refusal(text="folder", **fields):
    with pytest.raises(UserError) as error:
        experiment_of(text, **fields)
    assert_one_sentence(error.value)
    return str(error.value)


@pytest.fixture
def folder(tmp_path):
    """The folder of a text of 400 characters, 40 of which are evaluated."""
    (tmp_path / "a.txt").write_text("abcdefghijklmnopqrst" * 20)
    return {"data.data_dir": str(tmp_path), "batch_size": 4}


def test_task_is_that_of_the_config(folder):
    task = experiment_of().task
    assert (task.data, task.model) == ("markov", "transformer (1 layers, width 8)")
    assert task.num_train == markov.NUM_TRAIN // 8 - 1
    experiment = experiment_of("folder", **folder, **{"data.validation_examples": 9})
    assert experiment.task.num_train == 360 // 8 - 1 - 9
    train, test = experiment.task.load()
    assert train["tokens"].size == 360 - 72
    assert test["count"].tolist() == [8] * 9
    bytes_ = experiment_of("folder", **folder, **{"data.tokens": "bytes"}).task
    assert bytes_.metrics["perplexity"].chance == pytest.approx(256)


def test_unusable_values_are_refused(folder, tmp_path):
    assert "model.num_heads=3 does not divide model.width=8" in refusal(
        "markov", **{"model.num_heads": 3}
    )
    assert "data.context_length=200 is too long for the text" in refusal(
        **folder, **{"data.context_length": 200}
    )
    assert "data.validation_examples=44 leaves no training examples" in refusal(
        **folder, **{"data.validation_examples": 44}
    )
    assert "model.name='resnet18' is unknown; choose from transformer" in refusal(
        "markov", **{"model.name": "resnet18"}
    )
    assert "data.tokens='words' is unknown; choose from characters, bytes" in refusal(
        **folder, **{"data.tokens": "words"}
    )
    assert "data.tokens='bytes' has no effect here; it needs a language model of a te" in refusal(
        "markov", **{"data.tokens": "bytes"}
    )
    assert "needs data.data_dir" in refusal()
    assert "data.tokens='characters' needs the text in memory, but it is streamed" in refusal(
        **folder, **{"data.loading": "stream"}
    )
    stream = {"data.loading": "stream", "data.tokens": "bytes"}
    assert "data.max_damaged=1 has no effect" in refusal(
        **folder, **stream, **{"data.max_damaged": 1}
    )
    with pytest.raises(UserError, match="the text stays on disk, and this command keeps its data"):
        experiment_of("folder", **folder, **stream).task.load()


@pytest.mark.slow
def test_two_devices_and_micro_batches_make_the_updates_of_one_device(folder):

    def trained(devices, **fields):
        experiment = experiment_of("folder", **folder, **fields)
        strategy = parallel.make_strategy(experiment.strategy, jax.devices()[:devices])
        programs = assemble.compiled(
            experiment.task, experiment.optimizer, experiment.batches, strategy
        )
        train, test = (
            parallel.to_devices(split, strategy.replicated) for split in experiment.task.load()
        )
        state = programs.init(np.array([0, 0], np.uint32))
        order = programs.order(state)
        state, metrics, _ = programs.train(
            state, train, order, parallel.count(5, strategy.replicated)
        )
        evaluated = programs.evaluate(state, test)
        return jax.device_get((state.params, metrics, evaluated))

    params, metrics, evaluated = trained(1)
    assert int(evaluated.loss.count) == 40
    for fields in ({}, {"parallel.strategy": "pmap", "parallel.accumulate_steps": 2}):
        others = trained(2, **fields)
        assert int(others[2].loss.count) == 40
        np.testing.assert_allclose(others[1].loss.total, metrics.loss.total, rtol=1e-5)
        np.testing.assert_allclose(others[2].loss.total, evaluated.loss.total, rtol=1e-5)
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4),
            params,
            others[0],
        )
