"""Every mistake of a user ends a command with one sentence and exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs import base
from experiments import cli
from experiments.build import ranges
from experiments.errors import UserError
from loganneal_jax import named
from tests.experiments.build.edits import leaves

ROOT = Path(__file__).parents[2]
BROKEN_CONFIGS = {
    "BROKEN": "x = 1\ndef get_config(:\n",
    "RAISES": "def get_config():\n    return 1 / 0\n",
    "EMPTY": "x = 1\n",
    "NUMBER": "def get_config():\n    return 3\n",
}


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.epoch=3"], "unknown config field --config.epoch: config has averaging, "),
        (["--config.model.attention.head=3"], "config.model.attention has mlp_width, name, num_h"),
        (["--config.seed.x=3"], "config.seed is a value, not a section"),
        (["--config.epochs=many"], "--config.epochs=many: could not convert"),
        (["--config.epochs=-1"], "epochs=-1.0 is out of range"),
        (
            ["--config.schedule.name=cosin"],
            f"schedule.name='cosin' is unknown; choose from {', '.join(named.SCHEDULES)}, ",
        ),
        (
            ["--config.schedule.name=nowhere:schedule"],
            "schedule.name='nowhere:schedule' cannot be imported: ModuleNotFoundError: No module ",
        ),
        (["--config=configs/quickstrt.py"], "--config=configs/quickstrt.py cannot be read"),
        (["--config=BROKEN"], "line 2: invalid syntax"),
        (["--config=RAISES"], "line 2: ZeroDivisionError"),
        (["--config=EMPTY"], "has no function get_config"),
        (["--config=NUMBER"], "get_config must return a ConfigDict, got 3"),
        (["--wrkdir=x"], "Unknown command line flag 'wrkdir'"),
        (["x"], "unexpected argument 'x'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistake_ends_with_one_sentence_and_exit_code_2(tmp_path, flags, message):
    for name, text in BROKEN_CONFIGS.items():
        (tmp_path / name).write_text(text)
        flags = [flag.replace(name, str(tmp_path / name)) for flag in flags]
    workdir = tmp_path / "run"
    config = "--config=configs/quickstart.py"
    process = python("-m", "experiments.train", config, f"--workdir={workdir}", *flags)
    assert process.returncode == 2
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert process.stderr.startswith("error: ")
    assert message in process.stderr
    assert not workdir.exists()


def test_writes_that_end_after_a_failed_save_print_nothing():
    """Orbax has closed its event loop by then. Whether a write ends that late is a race."""
    script = """
import asyncio, tensorstore
from experiments import cli
promise, future = tensorstore.Promise.new()
async def write():
    asyncio.ensure_future(future)
    await asyncio.sleep(0)
def main():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(write())
    loop.close()
    promise.set_result(None)
    raise OSError(30, "Read-only file system")
cli.run(main)
"""
    process = python("-c", script)
    assert process.returncode == 2
    assert process.stderr == "error: Read-only file system\n"


COMMAND = """
from absl import flags
from ml_collections import config_flags
from experiments import cli
config_flags.DEFINE_config_file("config", None, "", lock_config=True)
flags.DEFINE_string("workdir", None, "")
def main():
    config = flags.FLAGS.config
    print(repr(eval(EXPRESSION, {**globals(), "config": config})))
cli.run(main)
"""


def shown(expression, *arguments):
    """What a command prints that evaluates an expression after it has parsed its flags."""
    return python("-c", f"EXPRESSION = {expression!r}\n{COMMAND}", *arguments)


NULLABLE = {
    "init_from": "somewhere",
    "schedule.total_epochs": 3.0,
    "data.data_dir": "somewhere",
    "data.image_size": 8,
    "data.workers": 2,
    "model.dropout_rate": 0.5,
    "optimizer.weight_decay_mode": "coupled",
    "optimizer.clip_norm": 1.0,
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.99,
    "optimizer.beta3": 0.99,
    "optimizer.epsilon": 1e-8,
    "optimizer.consistent_rms": 0.2,
    "averaging.ema_decay": 0.9,
    "averaging.swa_start_epoch": 3,
    "averaging.cycle_snapshots": True,
    "schedule.restart_interval_epochs": 5.0,
    "schedule.restart_value": 0.05,
    "schedule.base": 2.0,
    "guard.loss_threshold": 4.5,
}


def test_every_field_that_may_be_none_can_be_set_to_none(tmp_path):
    defaults = base.get_config()
    nullable = {path for path in leaves(defaults) if ranges.field(defaults, path) is None}
    assert nullable == set(NULLABLE)
    file = tmp_path / "config.py"
    file.write_text(
        "from configs import base\ndef get_config():\n    config = base.get_config()\n"
        f"    config.update_from_flattened_dict({NULLABLE!r})\n    return config\n"
    )
    expression = f"[config[path] for path in {[*NULLABLE]!r}], sorted(cli.given_fields())"
    flags = [f"--config.{path}=None" for path in NULLABLE]
    process = shown(expression, f"--config={file}", *flags[1:], *flags[0].split("=", 1))
    assert process.stdout == f"{([None] * len(NULLABLE), sorted(NULLABLE))}\n", process.stderr


def test_last_of_two_values_counts(tmp_path):
    field = "--config.schedule.restart_interval_epochs"
    quickstart = "--config=configs/quickstart.py"
    expression = "config.schedule.restart_interval_epochs"
    assert shown(expression, quickstart, f"{field}=None", f"{field}=3").stdout == "3.0\n"
    assert shown(expression, quickstart, f"{field}=3", f"{field}=None").stdout == "None\n"


@pytest.mark.parametrize(
    ("config", "field", "default"),
    [
        ("configs/quickstart.py", "epochs", "10.0"),
        ("configs/quickstart.py", "model.name", "'resnet18'"),
        ("configs/quickstart.py", "loss", "label_smoothing: 0.0 name: softmax_cross_entropy"),
        ("configs/sweeps/digits.py", "checkpoint_every_epochs", "1"),
        ("configs/sweeps/digits.py", "base.epochs", "10.0"),
    ],
)
def test_none_is_refused_where_a_value_is_needed(config, field, default):
    process = shown("0", f"--config={config}", f"--config.{field}=None")
    assert process.returncode == 2
    assert process.stderr == (
        f"error: --config.{field}=None is not allowed, because the field always has a value; its "
        f"default is {default}\n"
    )


def test_sweep_can_choose_its_block_size_itself():
    flags = ("--config=configs/sweeps/digits.py", "--config.block_size=None")
    assert shown("config.block_size", *flags).stdout == "None\n"


def test_config_file_is_executed_once(tmp_path):
    file = tmp_path / "config.py"
    file.write_text(
        "import sys\nsys.executions = getattr(sys, 'executions', 0) + 1\n"
        "from configs.quickstart import get_config\n"
    )
    expression = "__import__('sys').executions, config.seed"
    process = shown(expression, f"--config={file}", "--config.seed=3")
    assert process.stdout == "(1, 3)\n", process.stderr


def test_misspelled_field_after_a_config_with_a_space():
    process = shown("0", "--config", "configs/quickstart.py", "--config.epoch=3")
    assert process.returncode == 2
    assert process.stderr.startswith("error: unknown config field --config.epoch: config has")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("configs/quickstart.py", "quickstart"),
        ("configs/nakamura2021.py:mnist,nn2,trap", "nakamura2021-mnist-nn2-trap"),
        ("configs/nakamura2021.py:mnist,nn2,sig+", "nakamura2021-mnist-nn2-sig+"),
    ],
)
def test_default_name_is_a_plain_name(config, name):
    assert shown("cli.config_name()", f"--config={config}").stdout == f"{name!r}\n"


def test_home_directory_is_expanded_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cache")
    (tmp_path / "c.py").write_text("from configs.quickstart import get_config\n")
    expression = (
        "flags.FLAGS.workdir, config.data.data_dir, __import__('os').environ['XDG_CACHE_HOME']"
    )
    flags = ("--config=~/c.py", "--workdir=~/run", "--config.data.data_dir=~/tfds")
    process = shown(expression, *flags)
    expected = tuple(str(tmp_path / name) for name in ("run", "tfds", "cache"))
    assert process.stdout == f"{expected}\n", process.stderr


@pytest.mark.parametrize("path", ["runs/a", "/tmp/a", "gs://bucket/a", "s3://bucket/a", "runs/a:b"])
def test_directory_is_accepted(path):
    assert cli.directory("workdir", path) == path


@pytest.mark.parametrize("path", ["foo://bar", "gs:/bucket", "http://host/a"])
def test_unknown_scheme_is_refused(path):
    with pytest.raises(
        UserError, match=rf"^--workdir={path} has the unknown scheme .* gs:// or s3"
    ):
        cli.directory("workdir", path)


@pytest.mark.parametrize(("scheme", "package"), [("gs", "gcsfs"), ("s3", "s3fs")])
def test_bucket_that_no_installed_package_opens_is_refused(scheme, package, monkeypatch):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"needs TensorFlow or {package}, and neither is installed"):
        cli.directory("workdir", f"{scheme}://bucket/a")
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: name == package or None)
    assert cli.directory("workdir", f"{scheme}://bucket/a") == f"{scheme}://bucket/a"


WRITES = """
import sys
from experiments import cli
def main():
    for line in range(20_000):
        print("out", line)
        print("err", line, file=sys.stderr)
    open(PLACE, "w").close()
cli.run(main)
"""


@pytest.mark.parametrize(
    "redirection", ["2>&1 | head -1", ">&- 2>&-", "2>&-", "<&- >&- 2>/dev/null"]
)
def test_command_finishes_without_a_reader(tmp_path, redirection):
    place = tmp_path / "finished"
    script = tmp_path / "script.py"
    script.write_text(f"PLACE = {str(place)!r}\n{WRITES}")
    process = subprocess.run(
        ["bash", "-c", f"{sys.executable} {script} {redirection}; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0
    assert "Traceback" not in process.stdout + process.stderr
    assert place.exists()


def test_log_of_a_library_that_was_imported_first_is_quiet():
    script = """
import logging
logging.info("installs a handler of the root logger")
from experiments import cli
cli.run(lambda: logging.getLogger("jax").log(logging.INFO, "unimportant"))
"""
    process = python(
        "-c", script.replace("logging.info", "logging.root.setLevel(20); logging.info")
    )
    assert process.returncode == 0
    assert "unimportant" not in process.stderr


def test_full_output_is_one_sentence():
    script = "from experiments import cli\ncli.run(lambda: print('x'))"
    process = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$0" > /dev/full', script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr == "error: No space left on device\n"


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError('cannot allocate')",
        "type('XlaRuntimeError', (RuntimeError,), {})('RESOURCE_EXHAUSTED: 7 bytes')",
    ],
)
def test_lack_of_memory_is_one_sentence(error):
    script = f"from experiments import cli\ndef main():\n    raise {error}\ncli.run(main)"
    process = python("-c", script)
    assert process.returncode == 2
    assert process.stderr.startswith("error: out of memory (")
    assert "lower batch_size" in process.stderr
    assert process.stderr.count("\n") == 1
