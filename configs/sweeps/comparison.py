"""The comparison of docs/results/protocol.md, one task at a time.

    python -m experiments.sweep --config=configs/sweeps/comparison.py:shakespeare_500

| name | task |
|---|---|
| `shakespeare`, `shakespeare_500` | a transformer on tiny Shakespeare, 2,000 or 500 steps |
| `shakespeare_lion`, `shakespeare_muon` | three methods with another optimizer, 2,000 steps |
| `teacher` | a network learns another one from noisy labels, 32,768 steps |
| `teacher_short` | the same with a tenth of the noise, 1,024 steps |
| `cifar10` | a narrow ResNet-10 with attention on CIFAR-10 at 16x16 pixels, 15 epochs |
| `cifar10_five_cycles` | the same with log (normalized) alone |
| `cifar10_paper` | the same with log (paper) alone; not run yet |
| `gan` | a narrow DCGAN on MNIST with six of the methods, 2 epochs; not run yet |

Hardware: any CPU; docs/results has the command of each task with the cores, and the time it took.

Every method has the same warmup and the same peaks. Tuning uses seeds and examples that the final
trials do not use.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import base as run_base
from configs import cifar10_cpu, gan_mnist, language_model
from configs.sweeps import base, methods

WARMUP = 0.05  # of the run
TUNE_SEEDS = (100, 101)
FINAL_SEEDS = tuple(range(10))
TEACHER_STEPS_PER_EPOCH = 2**15


def shakespeare(steps: int = 2000) -> tuple[ConfigDict, float, int]:
    """Returns the config of a run, the center of its peaks, and its validation examples."""
    run = language_model.get_config("tiny_shakespeare")
    run.epochs = steps / language_model.SHAKESPEARE_STEPS_PER_EPOCH
    run.log_every_steps = 250
    run.model.dtype = "bfloat16"
    return run, 4e-3, 784  # windows, a twentieth of the training split


def shakespeare_lion() -> tuple[ConfigDict, float, int]:
    """Returns the config of a run, the center of its peaks, and its validation examples."""
    run, center, validation_examples = shakespeare()
    run.optimizer.name = "lion"
    # A tenth of AdamW's rates with ten times its weight decay (Chen et al. 2023, section 5).
    run.optimizer.weight_decay = 1.0
    return run, center / 10, validation_examples


def shakespeare_muon() -> tuple[ConfigDict, float, int]:
    """Returns the config of a run, the center of its peaks, and its validation examples."""
    run, center, validation_examples = shakespeare()
    run.optimizer.name = "muon"
    run.optimizer.consistent_rms = 0.2  # updates as large as AdamW's (Liu et al. 2025)
    return run, center, validation_examples


def teacher(noise: float, steps: int) -> tuple[ConfigDict, float, int]:
    """Returns the config of a run, the center of its peaks, and its validation examples."""
    run = run_base.get_config()
    run.task.name = "docs.results.teacher:make_task"
    run.task.options.noise = noise
    run.epochs = steps / TEACHER_STEPS_PER_EPOCH
    run.batch_size = 16
    run.eval_batch_size = 8192
    run.log_every_steps = 1024
    run.optimizer.momentum = 0.0
    run.optimizer.weight_decay = 0.0
    return run, 0.2, 16  # of 2^19 examples, so that an epoch keeps its length


def cifar10() -> tuple[ConfigDict, float, int]:
    """Returns the config of a run, the center of its peaks, and its validation examples."""
    run = cifar10_cpu.get_config()
    run.epochs = 15.0
    run.log_every_steps = 100
    run.data.image_size = 16
    run.data.crop_padding = 2
    run.model.width_multiplier = 0.125
    run.model.dtype = "bfloat16"
    return run, 0.2, 5000


def gan() -> tuple[ConfigDict, float, int]:
    """Returns the config of a run, the center of its peaks, and its validation examples."""
    run = gan_mnist.get_config()
    run.epochs = 2.0
    run.gan.discriminator_rate = 1.0  # both networks on one schedule
    return run, 1e-3, 5000


TASKS: dict[str, Callable[[], tuple[ConfigDict, float, int]]] = {
    "shakespeare": shakespeare,
    "shakespeare_500": lambda: shakespeare(500),
    "shakespeare_lion": shakespeare_lion,
    "shakespeare_muon": shakespeare_muon,
    "teacher": lambda: teacher(noise=1.0, steps=2**15),
    "teacher_short": lambda: teacher(noise=0.1, steps=2**10),
    "cifar10": cifar10,
    "cifar10_five_cycles": cifar10,
    "cifar10_paper": cifar10,
    "gan": gan,
}
# Task -> the methods that it compares, if it does not compare all of them.
FEWER = {
    "shakespeare_lion": ("log (normalized)", "cosine", "wsd"),
    "shakespeare_muon": ("log (normalized)", "cosine", "wsd"),
    "cifar10_five_cycles": ("log (normalized)",),
    "cifar10_paper": ("log (paper)",),
    "gan": ("log (paper)", "log (normalized)", "cosine", "wsd", "linear", "constant"),
}


def get_config(task: str = "shakespeare_500") -> ConfigDict:
    """Returns the config of the comparison on a task, which is a key of `TASKS`."""
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; choose one of {', '.join(TASKS)}")
    run, center, validation_examples = TASKS[task]()
    config = compare(run, center, validation_examples)
    if task.startswith("teacher"):
        config.settings = (*config.settings, {"name": "exponential", "schedule.name": "exp"})
    if task in FEWER:
        fewer = [setting for setting in config.settings if setting["name"] in FEWER[task]]
        config.settings = tuple(fewer)
    return config


def compare(run: ConfigDict, center: float, validation_examples: int) -> ConfigDict:
    """Returns the config of a comparison of all methods.

    Args:
      run: the config of its runs.
      center: the middle one of the peaks.
      validation_examples: training examples that tuning evaluates.
    """
    # References, because the grid changes the peak.
    run.schedule.end_value = 0.01 * run.schedule.get_oneway_ref("peak_value")
    run.schedule.warmup_init_value = 0.1 * run.schedule.get_oneway_ref("peak_value")
    run.schedule.warmup_epochs = WARMUP * run.epochs
    config = base.make(run)
    config.settings = methods.with_equal_warmup(run)
    config.seeds = FINAL_SEEDS
    peaks = tuple(center * 2.0**power for power in (-2, -1, 0, 1, 2))
    config.grid = ({"field": "schedule.peak_value", "values": peaks},)
    config.tune.seeds = TUNE_SEEDS
    config.tune.validation_examples = validation_examples
    config.tune.selection = "one_standard_error"
    config.tune.max_extensions = 2
    return config
