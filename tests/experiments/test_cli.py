"""Every mistake of a user ends a command with one sentence and exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

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
        (["--config.epoch=3"], "unknown config field --config.epoch: config has batch_size, "),
        (["--config.model.attention.head=3"], "config.model.attention has mlp_width, name, num_h"),
        (["--config.seed.x=3"], "config.seed is a value, not a section"),
        (["--config.epochs=many"], "--config.epochs=many: could not convert"),
        (["--config.epochs=-1"], "epochs=-1.0 is out of range"),
        (
            ["--config.schedule.name=cosin"],
            "schedule.name='cosin' is unknown; choose from constant, ",
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
