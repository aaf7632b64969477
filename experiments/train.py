"""Trains one model: python -m experiments.train --config=configs/NAME.py [--workdir=DIR].

Set any field of the config with --config.FIELD=VALUE. The same command with the same workdir
resumes from the newest checkpoint; docs/reliability.md lists the guarantees.
"""

import os
import sys

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from experiments import cli
from experiments.build import fields
from experiments.errors import UserError

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config of the run: a file, or a name such as quickstart.", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run. Defaults to runs/NAME.")
COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0 in a run of several processes."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes of the run.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Index of this process, counted from 0.")
COORDINATOR_TIMEOUT = flags.DEFINE_float(
    "coordinator_timeout", 300, "Seconds to wait for the other processes at the start."
)
EXTEND_TO_EPOCHS = flags.DEFINE_float(
    "extend_to_epochs", None, "Train the run in --workdir for more epochs, up to this number."
)
INIT_FROM = flags.DEFINE_string(
    "init_from", None, "Directory of a run whose weights a new run starts with."
)
PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", None, "Steps to trace for TensorBoard, as FIRST:END without END."
)
DETERMINISTIC = flags.DEFINE_bool(
    "deterministic", False, "Make a GPU compute the same bits in every run, as a CPU does."
)
COMPILE_CACHE = flags.DEFINE_bool(
    "compile_cache", True, "Keep compiled programs in the user's cache directory."
)
REQUIRE_SAME_ENVIRONMENT = flags.DEFINE_bool(
    "require_same_environment",
    False,
    "Refuse to resume if the versions, devices, threads, or flags differ, instead of warning.",
)
TRACKER = flags.DEFINE_string(
    "tracker", None, "Where else to record the run: csv, mlflow, or wandb; docs/experiments.md."
)


def main() -> None:
    """Trains as the flags specify."""
    config = CONFIG.value
    if config is None and not (WORKDIR.value and EXTEND_TO_EPOCHS.value is not None):
        raise UserError("--config is missing; pass --config=configs/NAME.py")
    given = cli.given_fields()
    if INIT_FROM.value is not None:
        if config is None:
            raise UserError("--init_from needs --config, because it begins a new run")
        with config.ignore_type():
            config.init_from = INIT_FROM.value
        given = (*given, "init_from")
    if config is not None:
        fields.check(config)
    workdir = epath.Path(cli.directory("workdir", WORKDIR.value or f"runs/{cli.config_name()}"))
    if DETERMINISTIC.value:
        # jax reads the variable when it is imported.
        flag = "--xla_gpu_deterministic_ops=true"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"

    # These import jax and other libraries that take seconds.
    from experiments.build import extension
    from experiments.build.experiment import build
    from experiments.program import switches
    from experiments.runtime import (
        compile_cache,
        environment,
        loop,
        processes,
        profiler,
        trackers,
        trained,
    )

    switches.pin()
    trackers.check(TRACKER.value)
    window = profiler.parse_window(PROFILE_STEPS.value) if PROFILE_STEPS.value else None
    cluster = processes.Cluster(
        COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, COORDINATOR_TIMEOUT.value
    )
    with processes.joined(cluster, cli.give_up):
        environment.check_platform()
        compile_cache.use(COMPILE_CACHE.value)
        epochs = EXTEND_TO_EPOCHS.value
        if config is None:
            config = ConfigDict(processes.together(lambda: trained.read_config(workdir)))
        if epochs is not None:
            config = extension.extended(config, epochs)
        experiment = processes.together(lambda: build(config, given))
        if epochs is not None:
            sentence = extension.describe(experiment)
            if processes.is_first():
                print(sentence, file=sys.stderr)
        summary, was_finished = loop.run(
            experiment,
            workdir,
            window,
            require_same_environment=REQUIRE_SAME_ENVIRONMENT.value,
            extend=epochs is not None,
            tracker=TRACKER.value,
        )
    objective = experiment.task.objective
    metric = experiment.task.metrics[objective]
    # A summary has None in place of a value that is not finite.
    kinds = {"last": "test", "best": "best_test"}
    kinds |= {name: f"test_{name}" for name in experiment.averaging.names}
    texts = {
        kind: "not finite" if value is None else metric.text(value)
        for kind, prefix in kinds.items()
        for value in [summary[f"{prefix}_{objective}"]]
    }
    last = texts.pop("last")
    others = ", ".join(f"{kind} {text}" for kind, text in texts.items())
    floor = summary.get("floors", {}).get(objective)  # older summaries have none
    beside = f"; {metric.text(floor['value'])} is the {floor['meaning']}" if floor else ""
    print(
        f"test {objective} {last} ({others}{beside}) after {summary['epochs']:g} epochs, "
        f"{summary['steps']} steps, in {summary['seconds']:.0f} s; "
        f"{'was finished before, in' if was_finished else 'wrote'} {workdir}"
    )


if __name__ == "__main__":
    cli.run(main)
