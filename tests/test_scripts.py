"""The scripts, with a fake gcloud or SLURM that records its calls."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "PROJECT": "project",
    "ZONE": "zone",
    "TPU": "slice",
    "ACCELERATOR_TYPE": "v5litepod-16",
    "RUNTIME": "v2-alpha-tpuv5-lite",
    "WORKDIR": "gs://bucket/run",
    "DATA": "gs://bucket/tfds",
}
# The slice is preempted at first. The run is finished once it has been started.
GCLOUD = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in
    *" describe "*) echo PREEMPTED ;;
    "storage ls"*) grep -q experiments.train "$CALLS" ;;
esac
"""


def tpu(tmp_path, *arguments, settings=SETTINGS):
    """Returns the exit code, the standard error, and the calls of gcloud, one per line."""
    for name, text in {"gcloud": GCLOUD, "sleep": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    process = subprocess.run(
        ["scripts/tpu.sh", *arguments],
        cwd=ROOT,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return process.returncode, process.stderr, calls.read_text()


def test_train_starts_the_run_on_every_host_with_its_workdir_on_the_bucket(tmp_path):
    code, errors, calls = tpu(tmp_path, "train", "--config=configs/cifar10_resnet34.py")
    assert code == 0, errors
    assert calls.startswith(
        "compute tpus tpu-vm ssh slice --project=project --zone=zone --worker=all --command="
    )
    assert "experiments.train --config=configs/cifar10_resnet34.py" in calls
    assert "--workdir='gs://bucket/run'" in calls


def test_keep_recreates_a_preempted_slice_until_the_run_is_finished(tmp_path):
    code, errors, calls = tpu(tmp_path, "keep", "--config=configs/quickstart.py")
    assert code == 0, errors
    order = [calls.index(f"tpu-vm {verb} slice") for verb in ("describe", "delete", "create")]
    order += [calls.index("pip install"), calls.index("experiments.train")]
    assert order == sorted(order)
    assert calls.count("tpu-vm create") == 1


@pytest.mark.parametrize(
    ("arguments", "without", "code", "message"),
    [
        (
            ["launch"],
            None,
            2,
            "error: unknown command 'launch'; choose create, setup, train, logs,",
        ),
        ([], None, 2, "error: unknown command ''; choose create, "),
        (["create"], "ZONE", 2, "ZONE"),
    ],
)
def test_mistakes_are_reported_before_any_call(tmp_path, arguments, without, code, message):
    settings = {name: value for name, value in SETTINGS.items() if name != without}
    returned, errors, calls = tpu(tmp_path, *arguments, settings=settings)
    assert returned == code
    assert message in errors
    assert calls == ""


def test_array_task_trains_its_shard_and_is_requeued_after_sigterm(tmp_path):
    """srun ends as the command does when SLURM stops it."""
    calls = tmp_path / "calls"
    for name, code in {"srun": 143, "scontrol": 0}.items():
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "$CALLS"\nexit {code}\n')
        (tmp_path / name).chmod(0o755)
    process = subprocess.run(
        ["bash", "scripts/sweep.sbatch", "--config=configs/sweeps/mnist.py", "--workdir=/runs/a b"],
        cwd=ROOT,
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "SLURM_CPUS_PER_TASK": "8",
            "SLURM_ARRAY_JOB_ID": "77",
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_ARRAY_TASK_COUNT": "4",
        },
        check=False,
        timeout=60,
    )
    assert process.returncode == 143
    assert calls.read_text() == (
        "srun --cpus-per-task=8 .venv/bin/python -m experiments.sweep --shard=3/4 --processes=8 "
        "--config=configs/sweeps/mnist.py --workdir=/runs/a b\nscontrol requeue 77_3\n"
    )
