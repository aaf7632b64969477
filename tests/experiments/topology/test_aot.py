"""The analysis of a step compiled for other devices: virtual CPUs, or TPUs with libtpu."""

import importlib.util
import itertools
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from configs import quickstart
from experiments.build.experiment import build
from experiments.errors import UserError
from experiments.topology import aot
from experiments.topology.hlo import Collective
from experiments.topology.roofline import Chip, Estimate

ROOT = Path(__file__).parents[3]
WITHOUT_LIBTPU = importlib.util.find_spec("libtpu") is None
LARGE = Chip(flops=1e12, hbm_bytes=1e9, hbm_bandwidth=1e9, ici_bandwidth=1e8, pod_chips=4)


def nn2_experiment(batch_size=64, pieces=1):
    config = quickstart.get_config()
    config.batch_size = batch_size
    config.log_every_steps = 3
    config.data.image_size = None
    config.model.update(name="nn2", width_multiplier=0.02)
    config.model.attention.update(name="none", width=64)
    config.parallel.accumulate_steps = pieces
    return build(config)


def test_report_counts_one_step_on_one_chip():
    experiment = nn2_experiment()
    report = aot.compile_step(experiment, jax.devices()[:2], LARGE)
    units = [64, 10, 10, 10]
    weights = [before * after for before, after in itertools.pairwise(units)]
    # Forward, and gradients of weights and inputs: 2 operations each per example and weight. The
    # images need no gradient. XLA adds the elementwise operations, which are few here.
    by_hand = 32 * (6 * sum(weights) - 2 * weights[0])
    assert by_hand < report.flops < 1.6 * by_hand
    assert (report.num_chips, report.batch_size) == (2, 64)
    # The chips exchange all gradients, and a few numbers of the metrics.
    num_bytes = 4 * (sum(weights) + sum(units[1:]))
    assert {each.kind for each in report.collectives} == {"all-reduce"}
    assert num_bytes <= sum(each.num_bytes for each in report.collectives) < num_bytes + 100
    # Each chip holds the whole data set.
    assert report.memory["argument"] > experiment.task.load().train["image"].nbytes
    assert report.least.compute == report.flops / LARGE.flops


def test_step_that_does_not_fit_has_no_report():
    experiment = nn2_experiment()
    needed = aot.compile_step(experiment, jax.devices()[:2], LARGE).used_bytes
    for hbm_bytes, fits in ((needed, True), (needed - 1, False)):
        chip = LARGE._replace(hbm_bytes=hbm_bytes)
        assert (aot.compile_step(experiment, jax.devices()[:2], chip) is not None) == fits


def test_batch_that_the_chips_cannot_share_is_refused():
    with pytest.raises(UserError, match=r"^batch_size=60 cannot be divided among 8 devices; it mu"):
        aot.compile_step(nn2_experiment(60), jax.devices(), LARGE)
    with pytest.raises(UserError, match=r"^batch_size=40 .* among 8 devices in 2 micro-batches"):
        aot.compile_step(nn2_experiment(40, pieces=2), jax.devices(), LARGE)


def test_largest_batch_is_searched_if_the_batch_does_not_fit(monkeypatch, capsys):
    """Here a step fits if each of two chips has at most 20 examples."""
    devices = jax.devices()[:2]
    compiled = []

    def compile_step(experiment, on_devices, chip):
        assert (on_devices, chip) == (devices, LARGE)
        compiled.append(experiment.batches.batch_size)
        return "report" if experiment.batches.batch_size <= 2 * 20 else None

    monkeypatch.setattr(aot, "devices_of", lambda topology: devices)
    monkeypatch.setattr(aot, "compile_step", compile_step)
    assert aot.compile_for_topology(nn2_experiment(64), "v5e:1x2", LARGE) == 20
    assert compiled[0] == 64
    assert {40, 42} <= set(compiled)
    assert capsys.readouterr().err == "v5e:1x2: does not fit, looking for the largest batch\n"
    assert aot.compile_for_topology(nn2_experiment(40), "v5e:1x2", LARGE) == "report"
    assert not capsys.readouterr().err


def test_largest_batch_takes_few_compilations():
    tried = []

    def fits(share):
        tried.append(share)
        return share <= 100

    assert aot.largest_batch(fits, below=1024) == 100
    assert len(tried) == 10
    assert aot.largest_batch(lambda share: False, below=8) == 0


def test_aliased_output_takes_no_memory_of_its_own():
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


@pytest.mark.slow
@pytest.mark.skipif(WITHOUT_LIBTPU, reason="needs libtpu")
def test_operations_of_a_step_on_a_tpu_equal_a_count_by_hand():
    """A dispatch has eleven steps, of which XLA counts one."""
    script = """
import json, os
os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
from configs import quickstart
from experiments.build.experiment import build
from experiments.topology import aot
from experiments.topology.roofline import CHIPS
config = quickstart.get_config()
config.batch_size = 1024
config.log_every_steps = 11
config.model.update(name="nn2", width_multiplier=0.5)
config.model.attention.update(name="none", width=64)
report = aot.compile_step(build(config), aot.devices_of("v5e:2x2"), CHIPS["v5e"])
print(json.dumps([report.flops, report.collectives]))
"""
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    flops, collectives = json.loads(process.stdout)
    units = [256, 250, 250, 10]
    weights = [before * after for before, after in itertools.pairwise(units)]
    # Forward, and gradients of weights and inputs: 2 operations each per example and weight. The
    # images need no gradient.
    by_hand = 256 * (6 * sum(weights) - 2 * weights[0])
    assert flops == pytest.approx(by_hand, rel=0.03)
    # The chips exchange all gradients, and a few numbers of the metrics.
    num_bytes = 4 * (sum(weights) + sum(units[1:]))
    reduced = sum(size for kind, _, size in collectives if kind == "all-reduce")
    assert num_bytes <= reduced < num_bytes + 1000
