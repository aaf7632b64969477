"""The compile command, with the real compiler for TPUs where it is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.compile import table
from experiments.topology import aot
from experiments.topology.hlo import Collective
from experiments.topology.roofline import CHIPS, Estimate

ROOT = Path(__file__).parents[2]
WITHOUT_LIBTPU = importlib.util.find_spec("libtpu") is None
NN2 = (
    "--config=configs/quickstart.py",
    "--config.model.name=nn2",
    "--config.model.width_multiplier=0.1",
    "--config.model.attention.name=none",
)


def run(*arguments, before=""):
    """Runs the command in its own process, after the code `before`."""
    script = f"{before}\nimport runpy\nrunpy.run_module('experiments.compile', run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def rows_of(markdown):
    """Returns the cells of each row of a Markdown table by the cell in its first column."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines()]
    return {name: cells for name, *cells in rows}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v5e:2x2"], "--config is missing"),
        (NN2, "--topology is missing"),
        (
            [*NN2, "--topology=v7:2x2"],
            "--topology='v7:2x2' is unknown; use one of v4, v5e, v5p, v6e with its shape",
        ),
        ([*NN2, "--topology=v5e:2x2,v5e"], "--topology='v5e' is unknown; use one of v4, v5e"),
        (
            [*NN2, "--topology=v5e:2x2", "--config.parallel.strategy=pmap"],
            "parallel.strategy='pmap' cannot be compiled",
        ),
        ([*NN2, "--topology=v5e:2x2", "--config.epochs=-1"], "epochs=-1.0 is out of range"),
    ],
)
def test_mistake_is_refused_in_one_sentence(arguments, message):
    process = run(*arguments)
    assert process.returncode == 2, process.stderr
    assert process.stderr.startswith(f"error: {message}")
    assert process.stderr.count("\n") == 1


def test_missing_compiler_is_an_error_that_says_how_to_install_it():
    hide = (
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'libtpu' else find(name, *rest)"
    )
    process = run(*NN2, "--topology=v5e:2x2", before=hide)
    assert process.returncode == 2
    assert process.stderr == (
        "error: libtpu is not installed; install it with pip install 'loganneal-jax[tpu]'\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT_LIBTPU, reason="needs libtpu")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v5e:3x5"], "--topology='v5e:3x5' does not exist ("),
        (["--topology=v5e:2x4", "--config.batch_size=60"], "60 cannot be divided among 8 devices"),
    ],
)
def test_topology_that_cannot_be_used_is_refused_in_one_sentence(arguments, message):
    process = run(*NN2, *arguments)
    assert process.returncode == 2
    assert message in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT_LIBTPU, reason="needs libtpu")
def test_quickstart_compiles_for_four_chips_of_v5e():
    process = run("--config=configs/quickstart.py", "--topology=v5e:2x2")
    assert process.returncode == 0, process.stderr
    rows = rows_of(process.stdout)
    assert rows["chips"] == ["4"]
    assert rows["examples per step"] == ["64 (16 per chip)"]
    assert rows["total memory, GB"][0].endswith(" of 16: fits")
    assert "all-reduce" in rows["collectives"][0]
    assert rows["least ms per step"][0].endswith("bound by memory")


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT_LIBTPU, reason="needs libtpu")
@pytest.mark.parametrize(
    ("config", "examples"),
    [
        (("linear_regression",), "16 (2 per chip)"),
        (("language_model", "--config.model.width=8"), "32 (4 per chip)"),
        (
            ("gan_mnist", "--config.data.name=digits", "--config.model.width_multiplier=0.05"),
            "64 (8 per chip)",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_every_task_compiles_for_eight_chips_of_v5e(config, examples):
    name, *options = config
    process = run(f"--config=configs/{name}.py", *options, "--topology=v5e:2x4")
    assert process.returncode == 0, process.stderr
    rows = rows_of(process.stdout)
    assert rows["examples per step"] == [examples]
    assert rows["total memory, GB"][0].endswith(" of 16: fits")
    assert "all-reduce" in rows["collectives"][0]


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT_LIBTPU, reason="needs libtpu")
def test_batch_that_does_not_fit_ends_with_code_1_and_the_largest_that_does():
    """The memory of the chip is reduced, so that only part of the batch fits."""
    small = (
        "from experiments.topology import roofline\n"
        "roofline.CHIPS['v5e'] = roofline.CHIPS['v5e']._replace(hbm_bytes=3.6e6)"
    )
    process = run(*NN2, "--config.batch_size=1024", "--topology=v5e:2x2", before=small)
    assert process.returncode == 1, process.stderr
    last = process.stdout.splitlines()[-1]
    assert last.startswith("v5e:2x2: a batch of 1024 does not fit into the 0.0036 GB of a chip; ")
    share = int(last.split("; ")[1].split()[0])
    assert 64 < share < 256
    fits = run(*NN2, f"--config.batch_size={4 * share}", "--topology=v5e:2x2", before=small)
    assert fits.returncode == 0
    more = run(*NN2, f"--config.batch_size={4 * share + 4}", "--topology=v5e:2x2", before=small)
    assert more.returncode == 1


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT_LIBTPU, reason="needs libtpu")
def test_compiler_crash_is_reported_after_the_table_of_the_other_topologies():
    crash_first = """
import os, pydoc
from experiments.topology import aot

class CrashFirst:
    results = [(os.abort, ()), (pydoc.locate, ("experiments.topology.aot.build_and_compile",))]

    def __reduce__(self):
        return self.results.pop(0)

aot.build_and_compile = CrashFirst()
"""
    process = run(*NN2, "--topology=v6e:2x2,v5e:2x2", before=crash_first)
    assert process.returncode == 2
    assert rows_of(process.stdout)[""] == ["v5e:2x2"]
    last = process.stderr.splitlines()[-1]
    assert last.startswith("error: the compiler of libtpu ")
    assert "crashed on --topology=v6e:2x2;" in last


def test_table_has_the_values_of_every_report():
    report = aot.Report(
        num_chips=8,
        batch_size=128,
        flops=2e9,
        bytes_accessed=3e9,
        memory={"argument": 5, "output": 4, "temp": 3, "generated_code": 2, "alias": 4},
        collectives=[Collective("all-reduce", 2, 4_000_000)],
        least=Estimate(0.001, 0.004, 0.002),
    )
    columns = ("v5e:2x4", "v6e:2x4")
    rows = rows_of(table(dict.fromkeys(columns, report), dict.fromkeys(columns, CHIPS["v5e"])))
    assert rows[""] == list(columns)
    assert rows["examples per step"] == 2 * ["128 (16 per chip)"]
    assert rows["collectives"] == 2 * ["2 all-reduce, 4.0 MB"]
    assert rows["least ms per step"] == 2 * ["4, bound by memory"]
    assert rows["examples/s at most"] == 2 * ["32,000"]
