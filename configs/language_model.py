"""A small transformer that predicts the next character of a text.

    python -m experiments.train --config=configs/language_model.py

Hardware: any CPU. The text is a random Markov chain, which needs no network, and whose entropy rate
is the floor of the loss.

    python -m experiments.train --config=configs/language_model.py:tiny_shakespeare

The size and the steps of nanoGPT's character model on a CPU: 4 layers of width 128, a context of
64, 2,000 steps of 12 windows, at three times its peak learning rate. tensorflow-datasets downloads
and prepares the text.

docs/tasks/language_model.md has the results.
"""

from ml_collections import ConfigDict

from configs import base

SHAKESPEARE_STEPS_PER_EPOCH = 1307  # 15,684 windows


def get_config(text: str = "markov") -> ConfigDict:
    """Returns the config of a text: markov, tiny_shakespeare, or folder."""
    config = base.get_config()
    config.task.name = "language_model"
    config.data.name = text
    config.eval_batch_size = 128

    config.model.name = "transformer"
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay_mask = "kernels"
    config.optimizer.clip_norm = 1.0
    config.schedule.name = "cosine"

    if text == "markov":
        config.epochs = 8.0
        config.batch_size = 32
        config.model.num_layers = 2
        config.model.width = 64
        config.optimizer.weight_decay = 0.0
        config.schedule.peak_value = 4e-3
        config.schedule.end_value = 4e-5
        config.schedule.warmup_epochs = 0.5
    else:
        config.epochs = 2000 / SHAKESPEARE_STEPS_PER_EPOCH
        config.batch_size = 12
        config.optimizer.beta2 = 0.99
        config.optimizer.weight_decay = 0.1
        config.schedule.peak_value = 3e-3
        config.schedule.end_value = 1e-4
        config.schedule.warmup_epochs = 100 / SHAKESPEARE_STEPS_PER_EPOCH
    return config
