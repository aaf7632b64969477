"""Parts of your own, by `package.module:attribute`: the modules in docs/ work as it says.

They are written to a directory outside this repository, as a user would.
"""

import csv
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import loganneal_jax
from configs import quickstart
from experiments.build.experiment import build
from experiments.data import datasets
from tests import commands
from tests.commands import ROOT

SHORT = ("--config=configs/quickstart.py", "--config.epochs=2", "--config.batch_size=256")
SMALL = (
    *SHORT,
    *("--config.data.image_size=8", "--config.model.attention.name=none"),
)
PARTS = {
    "schedule.name": "my_parts:polynomial",
    "optimizer.name": "my_parts:lion",
    "model.name": "my_parts:network",
    "loss.name": "my_parts:squared_error",
    "data.preprocess": ("my_parts:scale_by_largest",),
    "schedule.peak_value": 0.001,
    "schedule.end_value": 0.0001,
    "optimizer.weight_decay": 0.0,
}
SWEEP_OF_PARTS = """
from configs import quickstart
from configs.sweeps import base

def get_config():
    run = quickstart.get_config()
    run.epochs = 2.0
    run.batch_size = 256
    run.data.image_size = 8
    run.model.update(name="nn2", width_multiplier=0.02)
    run.model.attention.update(name="none", width=64)
    run.schedule.peak_value = 0.001
    run.schedule.end_value = 0.0001
    config = base.make(run)
    config.seeds = (0,)
    config.settings = (
        {"name": "schedule", "schedule.name": "my_parts:polynomial"},
        {"name": "optimizer", "optimizer.name": "my_parts:lion"},
        {"name": "model", "model.name": "my_parts:network"},
    )
    return config
"""
SWEEP_OF_TASK = """
from configs import base as run_base
from configs.sweeps import base

def get_config():
    run = run_base.get_config()
    run.epochs = 2.0
    run.batch_size = 64
    run.schedule.name = "constant"
    run.task.name = "my_task:make_task"
    run.task.options.num_examples = 512
    config = base.make(run)
    config.settings = ({"name": "sgd"}, {"name": "adam", "optimizer.name": "adam"})
    config.seeds = (0, 1)
    config.grid = ({"field": "schedule.peak_value", "values": (0.0001, 0.02)},)
    config.tune.seeds = (100,)
    config.tune.validation_examples = 128
    return config
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A directory with the modules of the documentation and two configs of sweeps."""
    directory = tmp_path_factory.mktemp("mine")
    text = "".join(
        (ROOT / "docs" / f"{page}.md").read_text() for page in ("data", "experiments", "extending")
    )
    modules = dict(re.findall(r"`(my_\w+\.py)`[^`]*\n\n```python\n(.*?)```", text, re.DOTALL))
    assert set(modules) == {
        *("my_parts.py", "my_task.py", "my_config.py", "my_digits.py", "my_images.py")
    }
    assert len(modules["my_task.py"].splitlines()) < 60
    modules |= {"sweep_of_parts.py": SWEEP_OF_PARTS, "sweep_of_task.py": SWEEP_OF_TASK}
    for name, source in modules.items():
        (directory / name).write_text(source)
    return directory


@pytest.fixture
def on_path(mine, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(mine)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def command(mine, name, *arguments):
    return commands.run(
        f"experiments.{name}",
        *arguments,
        PYTHONPATH=str(mine),
        XDG_CACHE_HOME=str(mine / "cache"),
    )


@pytest.mark.usefixtures("on_path")
def test_images_in_memory_are_a_data_set():
    config = quickstart.get_config()
    changes = {"data.name": "my_images:load", "data.validation_examples": 100}
    with config.ignore_type():
        config.update_from_flattened_dict({**changes, "data.image_size": None})
    task = build(config, [*changes, "data.image_size"]).task
    assert (task.data, task.num_train) == ("my_images:load", 300)
    data = task.load()
    assert data.train["image"].shape == (300, 8, 8, 1)
    labels = np.concatenate([data.train["label"], data.test["label"]])
    assert np.array_equal(np.bincount(labels) > 150, [True, True])


def read_run(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return json.loads((directory / "summary.json").read_text()), [json.loads(x) for x in lines]


def config_with_parts():
    config = quickstart.get_config()
    config.epochs = 2.0
    config.data.image_size = 8
    config.data.augment = False
    config.model.attention.name = "none"
    config.model.width_multiplier = 0.05
    config.update_from_flattened_dict(PARTS)
    return config


@pytest.mark.usefixtures("on_path")
def test_experiment_uses_every_part():
    """One step equals the arithmetic of the five parts by hand."""
    experiment = build(config_with_parts(), ["model.attention.name", "data.augment", *PARTS])
    rates = loganneal_jax.tabulate(experiment.schedule, experiment.num_steps)
    expected = 0.0001 + 0.0009 * (1 - np.arange(44) / 44) ** 2
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    plain = datasets.load(datasets.describe("digits", data_dir=None, image_size=None))
    data = experiment.task.load()
    np.testing.assert_allclose(data.train["image"], plain.train_images / 255.0, rtol=1e-6)

    state = experiment.task.init(jax.random.key(0), experiment.optimizer)
    params = jax.tree.map(np.asarray, state.params)
    hidden, head = params["backbone"]["Dense_0"], params["head"]
    assert hidden["kernel"].shape == (64, 5)
    batch = {name: array[:32] for name, array in data.train.items()}

    def loss_of(params):
        hidden, head = params["backbone"]["Dense_0"], params["head"]
        features = jnp.maximum(batch["image"].reshape(32, -1) @ hidden["kernel"], 0)
        logits = features @ head["kernel"]
        return jnp.square(logits - jax.nn.one_hot(batch["label"], 10)).sum(axis=1).mean()

    assert not hidden["bias"].any()
    assert not head["bias"].any()
    loss, gradients = jax.value_and_grad(loss_of)(params)
    state, metrics = experiment.task.train_step(state, batch, experiment.optimizer)
    np.testing.assert_allclose(jax.device_get(metrics).compute()["loss"], loss, rtol=1e-5)
    # The first step of lion moves every parameter by the learning rate, against its gradient.
    moved = np.asarray(state.params["head"]["kernel"]) - head["kernel"]
    np.testing.assert_allclose(moved, -0.001 * np.sign(gradients["head"]["kernel"]), atol=1e-7)


def test_train_accepts_every_part(mine, tmp_path):
    flags = [f"--config.{field}={value}" for field, value in PARTS.items()]
    process = command(mine, "train", *SMALL, *flags, f"--workdir={tmp_path / 'run'}")
    assert process.returncode == 0, process.stderr
    summary, records = read_run(tmp_path / "run")
    assert [record["step"] for record in records] == [5, 10]
    rates = [0.0001 + 0.0009 * (1 - step / 10) ** 2 for step in (4, 9)]
    assert [record["learning_rate"] for record in records] == pytest.approx(rates, rel=1e-5)
    assert records[1]["train_loss"] < records[0]["train_loss"]
    assert summary["model"] == "my_parts:network (width 0.25)"
    assert summary["parameters"] == 64 * 25 + 25 + 25 * 10 + 10


def test_train_accepts_a_task(mine, tmp_path):
    flags = ("--config.task.name=my_task:make_task", "--config.schedule.name=constant")
    process = command(mine, "train", *SHORT, *flags, f"--workdir={tmp_path / 'run'}")
    assert process.returncode == 0, process.stderr
    summary, records = read_run(tmp_path / "run")
    loss = f"{summary['test_loss']:.4g}"
    assert process.stdout.startswith(f"test loss {loss} (best {loss}) after 2 epochs, 32 steps, ")
    assert set(records[0]) == {"step", "epoch", "learning_rate", "train_loss", "test_loss"}
    assert records[1]["test_loss"] < records[0]["test_loss"]
    assert summary["best_test_loss"] == summary["test_loss"] == records[1]["test_loss"]
    assert (summary["task"], summary["objective"]) == ("my_task:make_task", "loss")
    assert (summary["data"], summary["model"], summary["parameters"]) == ("generated", "linear", 9)
    assert summary["metrics"] == {"loss": {"direction": "min", "percent": False, "chance": None}}


@pytest.fixture(scope="module")
def sweep_of_task(mine):
    directory = mine / "task"
    process = command(
        mine, "sweep", f"--config={mine / 'sweep_of_task.py'}", f"--workdir={directory}"
    )
    assert process.returncode == 0, process.stderr
    return directory


def read_trials(directory):
    with (directory / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_sweep_of_a_task_chooses_the_lowest_loss(sweep_of_task):
    rows = read_trials(sweep_of_task)
    summary = json.loads((sweep_of_task / "summary.json").read_text())
    assert {(row["data"], row["model"]) for row in rows} == {("generated", "linear")}
    assert (summary["task"], summary["objective"]) == ("my_task:make_task", "loss")
    for setting in ("sgd", "adam"):
        losses = {
            float(row["schedule.peak_value"]): float(row["test_loss"])
            for row in rows
            if (row["phase"], row["setting"], row["epoch"]) == ("tune", setting, "2.0")
        }
        assert len(losses) == 2
        best = min(losses, key=losses.get)
        assert summary["chosen"][setting] == {"schedule.peak_value": best}
        final = [row for row in rows if (row["phase"], row["setting"]) == ("final", setting)]
        assert {float(row["schedule.peak_value"]) for row in final} == {best}
        assert {row["seed"] for row in final} == {"0", "1"}
    # Tuning holds out 128 of the 512 examples: 6 steps per epoch, and then 8.
    assert {row["step"] for row in rows if row["phase"] == "tune"} == {"6", "12"}
    assert {row["step"] for row in rows if row["phase"] == "final"} == {"8", "16"}


def test_sweep_of_parts_trains_every_setting(mine):
    directory = mine / "parts"
    process = command(
        mine, "sweep", f"--config={mine / 'sweep_of_parts.py'}", f"--workdir={directory}"
    )
    assert process.returncode == 0, process.stderr
    rows = read_trials(directory)
    assert [(row["setting"], row["epoch"]) for row in rows] == [
        (setting, epoch)
        for setting in ("schedule", "optimizer", "model")
        for epoch in ("1.0", "2.0")
    ]
    assert {row["diverged"] for row in rows} == {"False"}
    rates = [float(row["learning_rate"]) for row in rows[:2]]
    expected = [0.0001 + 0.0009 * (1 - step / 10) ** 2 for step in (4, 9)]
    assert rates == pytest.approx(expected, rel=1e-5)
    assert [row["model"] for row in rows[::2]] == [
        *2 * ["nn2 (width 0.02)"],
        "my_parts:network (width 0.02)",
    ]


def test_report_of_a_task_ranks_by_its_loss(mine, sweep_of_task, tmp_path):
    process = command(mine, "report", sweep_of_task, f"--out={tmp_path / 'report'}")
    assert process.returncode == 0, process.stderr
    report = (tmp_path / "report" / "report.md").read_text()
    assert "loss" in report
    assert "accuracy" not in report


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "--config.schedule.name=my_parts:polynomal",
            "error: schedule.name='my_parts:polynomal' cannot be imported: AttributeError: module "
            "'my_parts' has no attribute 'polynomal'",
        ),
        (
            "--config.task.name=my_tasks:make_task",
            "error: task.name='my_tasks:make_task' cannot be imported: ModuleNotFoundError: No "
            "module named 'my_tasks'",
        ),
    ],
)
def test_misspelled_name_ends_with_one_sentence(mine, tmp_path, override, message):
    process = command(mine, "train", *SMALL, override, f"--workdir={tmp_path / 'run'}")
    assert process.returncode == 2
    assert process.stderr == message + "\n"
    assert not (tmp_path / "run").exists()
