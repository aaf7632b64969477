"""The benchmarks' trainer, compared with the programs of `experiments.train`."""

import chex
import jax
import numpy as np

from benchmarks import trainer
from experiments.build.experiment import build
from experiments.data import datasets
from experiments.program import assemble, parallel


def test_trainer_computes_the_same_bits_as_the_experiment_of_its_config(caplog):
    config = trainer.config_of("nn2", batch_size=64, augment=False)
    config.data.name = "digits"
    config.schedule.name = "constant"
    config.schedule.peak_value = 0.05
    experiment = build(config)
    strategy = parallel.make_strategy("jit", jax.devices())
    programs = assemble.compiled(
        experiment.task, experiment.optimizer, experiment.batches, strategy
    )
    state = programs.init(np.asarray(jax.random.key_data(jax.random.key(config.seed))))
    data = experiment.task.load()
    train = parallel.to_devices(data.train, strategy.replicated)
    test = parallel.to_devices(data.test, strategy.replicated)
    expected, *_ = programs.train(state, train, programs.order(state), 3)

    dataset = datasets.load(datasets.describe("digits", data_dir=None, image_size=None))
    made = trainer.make(config, dataset, 0.05)
    order = made.order(made.state)
    with jax.log_compiles():
        trained, *_ = made.train(made.state, made.splits[0], order, 3)
    assert "train_steps" not in caplog.text  # it was compiled before
    assert int(trained.step) == 3
    chex.assert_trees_all_equal(trained.params, expected.params)
    chex.assert_trees_all_equal(
        made.evaluate(trained, made.splits[1]), programs.evaluate(expected, test)
    )
