"""The first signal asks a run to stop; the second ends the process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.runtime import signals

ROOT = Path(__file__).parents[3]
NUMBERS = (signal.SIGINT, signal.SIGTERM)


def test_signal_is_noted_and_the_handlers_are_restored(capfd):
    before = [signal.getsignal(number) for number in NUMBERS]
    for number in NUMBERS:
        with signals.caught() as received:
            assert received() is None
            os.kill(os.getpid(), number)
            assert received() == number
        assert "send the signal again to stop at once" in capfd.readouterr().err
    assert before == [signal.getsignal(number) for number in NUMBERS]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_second_signal_ends_the_process_at_once(number):
    script = (
        "import time\nfrom experiments.runtime import signals\n"
        "with signals.caught():\n    print('ready', flush=True)\n    time.sleep(100)\n"
        "    time.sleep(100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stderr.readline().startswith("stopping after the current steps")
        time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(20) == 128 + number


@pytest.mark.parametrize("num_processes", [1, 2])
def test_stop_request_is_agreed_on_when_its_answer_is_read(monkeypatch, num_processes):
    """A single process knows at once; several know when all of them read the answer."""
    monkeypatch.setattr(jax, "process_count", lambda: num_processes)
    received = [None]
    mesh = jax.make_mesh((len(jax.devices()),), ("batch",))
    request = signals.StopRequest(lambda: received[0], mesh)
    request.read(np.asarray(request.exchange()))
    assert request.signal() is None
    received[0] = signal.SIGTERM
    answer = np.asarray(request.exchange())
    assert request.signal() == (signal.SIGTERM if num_processes == 1 else None)
    request.read(answer)
    assert request.signal() == signal.SIGTERM
    received[0] = signal.SIGINT
    request.read(np.asarray(request.exchange()))
    assert request.signal() == (signal.SIGINT if num_processes == 1 else signal.SIGTERM)
