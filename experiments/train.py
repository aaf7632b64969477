"""Trains one model: python -m experiments.train --config=configs/NAME.py [--workdir=DIR].

Any field of the config can be set with --config.FIELD=VALUE. The same command on the same workdir
goes on from the newest checkpoint. docs/reliability.md tells what is promised.
"""

import os

from absl import flags
from etils import epath
from ml_collections import config_flags

from experiments import cli, fields, window
from experiments.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept; runs/NAME by default.")
COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, where a run has several processes."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
COORDINATOR_TIMEOUT = flags.DEFINE_float(
    "coordinator_timeout", 300, "Seconds to wait for the other processes at the start."
)
PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", None, "FIRST:END, steps of which a trace is written for TensorBoard."
)
DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", False, "Have a GPU compute the same bits every time; a CPU does anyway."
)
COMPILE_CACHE = flags.DEFINE_bool(
    "compile_cache", True, "Keep compiled programs in the user's cache directory."
)


def main() -> None:
    """Trains as the flags say."""
    config = CONFIG.value
    if config is None:
        raise UserError("--config is missing; pass --config=configs/NAME.py")
    fields.check(config)
    if DETERMINISTIC.value:
        # Read when jax is imported.
        flag = "--xla_gpu_deterministic_ops=true"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    workdir = epath.Path(WORKDIR.value or f"runs/{cli.config_name()}")
    profiled = window.parse(PROFILE_STEPS.value) if PROFILE_STEPS.value else None

    # With jax and its libraries, which take seconds.
    from experiments import compile_cache, processes, run

    cluster = processes.Cluster(
        COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, COORDINATOR_TIMEOUT.value
    )
    with processes.joined(cluster, cli.give_up):
        compile_cache.use(COMPILE_CACHE.value)
        summary, was_finished = run.run(config, workdir, profiled)
    print(
        f"test accuracy {summary['test_accuracy']:.2%} (best {summary['best_test_accuracy']:.2%}) "
        f"after {summary['epochs']:g} epochs, {summary['steps']} steps, in "
        f"{summary['seconds']:.0f} s; {'was finished before, in' if was_finished else 'wrote'} "
        f"{workdir}"
    )


if __name__ == "__main__":
    cli.run(main)
