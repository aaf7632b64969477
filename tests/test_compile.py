"""A run compiled for TPUs that are not here, by their real compiler where it is installed."""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import aot
from experiments.compile import table
from experiments.hlo import Collective
from experiments.roofline import CHIPS, Estimate

ROOT = Path(__file__).parents[1]
WITHOUT_LIBTPU = importlib.util.find_spec("libtpu") is None
NN2 = (
    "--config=configs/quickstart.py",
    "--config.model.name=nn2",
    "--config.model.width_multiplier=0.1",
    "--config.model.attention.name=none",
)


def run(*arguments, before=""):
    """The command in a process of its own, some code before it."""
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v5e:2x2"], "--config is missing"),
        (NN2, "--topology is missing"),
        (
            [*NN2, "--topology=v7:2x2"],
            "unknown --topology='v7:2x2'; it is one of v4, v5e, v5p, v6e",
        ),
        ([*NN2, "--topology=v5e:2x2,v5e"], "unknown --topology='v5e'"),
        (
            [*NN2, "--topology=v5e:2x2", "--config.parallel.strategy=pmap"],
            "parallel.strategy='pmap' cannot be compiled",
        ),
        ([*NN2, "--topology=v5e:2x2", "--config.epochs=-1"], "epochs=-1.0 is out of range"),
    ],
)
def test_what_cannot_be_compiled_is_refused_in_one_sentence(arguments, message):
    process = run(*arguments)
    assert process.returncode == 2, process.stderr
    assert process.stderr.startswith(f"error: {message}")
    assert process.stderr.count("\n") == 1


def test_without_the_compiler_the_command_says_how_to_get_it():
    hide = (
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'libtpu' else find(name, *rest)"
    )
    process = run(*NN2, "--topology=v5e:2x2", before=hide)
    assert process.returncode == 2
    assert process.stderr == ("error: libtpu is not installed; pip install '.[tpu]' brings it\n")


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT_LIBTPU, reason="needs libtpu")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology=v5e:3x5"], "there is no --topology='v5e:3x5' ("),
        (["--topology=v5e:2x4", "--config.batch_size=60"], "60 cannot be divided among 8 devices"),
    ],
)
def test_what_the_compiler_refuses_is_one_sentence_too(arguments, message):
    process = run(*NN2, *arguments)
    assert process.returncode == 2
    assert message in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT_LIBTPU, reason="needs libtpu")
def test_the_quickstart_compiles_for_four_chips_of_v5e():
    process = run("--config=configs/quickstart.py", "--topology=v5e:2x2")
    assert process.returncode == 0, process.stderr
    rows = dict(line.strip("| ").split(" | ") for line in process.stdout.splitlines()[2:])
    assert rows["chips"] == "4"
    assert rows["images a step"] == "64 (16 a chip)"
    assert rows["memory in all, GB"].endswith(" of 16: fits")
    assert "all-reduce" in rows["collectives"]
    assert rows["least ms a step"].endswith("bound by memory")


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT_LIBTPU, reason="needs libtpu")
def test_a_step_has_the_operations_that_can_be_counted_by_hand():
    """Also that XLA counts a loop once: a dispatch has eleven steps here."""
    script = """
import json, os
os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
from configs import quickstart
from experiments import aot
from experiments.roofline import CHIPS
config = quickstart.get_config()
config.log_every_steps = 11
config.model.update(name="nn2", width_multiplier=0.5)
config.model.attention.name = "none"
report = aot.compiler(config)(1024, aot.devices_of("v5e:2x2"), CHIPS["v5e"])
print(json.dumps([report.flops, report.collectives]))
"""
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    flops, collectives = json.loads(process.stdout)
    units = [256, 250, 250, 10]
    weights = [before * after for before, after in itertools.pairwise(units)]
    # Forward, gradients of weights and of inputs: 2 each an image and weight; the images need none.
    by_hand = 256 * (6 * sum(weights) - 2 * weights[0])
    assert flops == pytest.approx(by_hand, rel=0.03)
    # All gradients are reduced, and of metrics a few numbers.
    num_bytes = 4 * (sum(weights) + sum(units[1:]))
    reduced = sum(size for kind, _, size in collectives if kind == "all-reduce")
    assert num_bytes <= reduced < num_bytes + 1000


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT_LIBTPU, reason="needs libtpu")
def test_what_does_not_fit_ends_with_code_1_and_the_largest_batch_that_does():
    """On a chip with so little memory that only some of the batch fits."""
    small = (
        "from experiments import roofline\n"
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
def test_a_crash_of_the_compiler_is_one_sentence_after_the_table_of_the_others():
    crash_first = """
import os, pydoc
from experiments import aot

class CrashFirst:
    todo = [(os.abort, ()), (pydoc.locate, ("experiments.aot.compile_for_topology",))]

    def __reduce__(self):
        return self.todo.pop(0)

aot.compile_for_topology = CrashFirst()
"""
    process = run(*NN2, "--topology=v6e:2x2,v5e:2x2", before=crash_first)
    assert process.returncode == 2
    assert process.stdout.startswith("|  | v5e:2x2 |")
    last = process.stderr.splitlines()[-1]
    assert last.startswith("error: the compiler of libtpu ")
    assert "crashed on --topology=v6e:2x2;" in last


def test_the_largest_batch_is_found_with_few_compilations():
    tried = []

    def fits(share):
        tried.append(share)
        return share <= 100

    assert aot.largest_batch(fits, below=1024) == 100
    assert len(tried) == 10
    assert aot.largest_batch(lambda share: False, below=8) == 0


def test_the_table_has_what_was_found():
    report = aot.Report(
        num_chips=8,
        batch_size=128,
        flops=2e9,
        bytes_accessed=3e9,
        memory={"argument": 5, "output": 4, "temp": 3, "generated_code": 2, "alias": 4},
        collectives=[Collective("all-reduce", 2, 4_000_000)],
        least=Estimate(0.001, 0.004, 0.002),
    )
    assert report.used_bytes == 10
    lines = table(
        {"v5e:2x4": report, "v6e:2x4": report}, dict.fromkeys(("v5e:2x4", "v6e:2x4"), CHIPS["v5e"])
    )
    assert "| images a step | 128 (16 a chip) | 128 (16 a chip) |" in lines
    assert "| collectives | 2 all-reduce, 4.0 MB | 2 all-reduce, 4.0 MB |" in lines
    assert "| least ms a step | 4, bound by memory | 4, bound by memory |" in lines
    assert "| images/s at most | 32,000 | 32,000 |" in lines
