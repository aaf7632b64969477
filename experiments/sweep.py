"""Trains many trials: python -m experiments.sweep --config=configs/sweeps/NAME.py [--workdir=DIR].

Set any field of the sweep's config with --config.FIELD=VALUE, and any field of its runs with
--config.base.FIELD=VALUE. The same command with the same workdir resumes the sweep.

--processes=N trains in N processes, and --shard=I/N trains the I-th of N shares.
"""

import sys

from absl import flags
from etils import epath
from ml_collections import config_flags

from experiments import cli
from experiments.build.sweeps import read_sweep
from experiments.errors import UserError
from experiments.program import switches
from experiments.runtime import compile_cache, environment
from experiments.sweeping import shard, worker
from experiments.sweeping.run import Workers, run


def main() -> None:
    """Trains as the flags specify."""
    config = flags.FLAGS.config
    if config is None:
        raise UserError("--config is missing; pass --config=configs/sweeps/NAME.py")
    workdir = epath.Path(
        cli.directory("workdir", flags.FLAGS.workdir or f"runs/{cli.config_name()}")
    )
    switches.pin()
    environment.check_platform()
    sweep = read_sweep(config, cli.given_fields())
    is_worker = flags.FLAGS.worker is not None
    compile_cache.use(flags.FLAGS.compile_cache, is_worker=is_worker)
    if is_worker:
        worker.serve(sweep, workdir, flags.FLAGS.worker)
        return
    end = run(
        sweep,
        workdir,
        require_same_environment=flags.FLAGS.require_same_environment,
        share=shard.parse(flags.FLAGS.shard),
        workers=Workers(flags.FLAGS.processes, _own_command()),
    )
    if end.summary is None:
        print(end.missing)
        return
    summary = end.summary
    print(
        f"{summary['trials']} trials ({summary['diverged']} diverged) in "
        f"{summary['seconds']:.0f} s; {'was finished before, in' if end.was_finished else 'wrote'} "
        f"{workdir}/trials.csv; for tables and figures: "
        f"python -m experiments.report {workdir} --out=DIR"
    )


def _own_command() -> list[str]:
    """Returns the command of this process, which its workers run too."""
    switches = [*["-O"] * sys.flags.optimize, *(f"-W{each}" for each in sys.warnoptions)]
    return [sys.executable, *switches, "-m", "experiments.sweep", *sys.argv[1:]]


def define_flags() -> None:
    """Defines the flags of the command; importing it must not, because other commands do too."""
    config_flags.DEFINE_config_file(
        "config", None, "Config of the sweep: a file, or a name such as digits.", lock_config=True
    )
    flags.DEFINE_string("workdir", None, "Directory of the sweep. Defaults to runs/NAME.")
    flags.DEFINE_bool(
        "require_same_environment",
        False,
        "Refuse to resume if versions, devices, threads, or flags differ, instead of warning.",
    )
    flags.DEFINE_integer(
        "processes", 1, "Number of processes on a CPU. They share the trials and the cores."
    )
    flags.DEFINE_string(
        "shard", "1/1", "Share of the trials to train, as I/N: the I-th of N, counted from 1."
    )
    flags.DEFINE_string("worker", None, "Pipes to the parent process. Only --processes sets it.")
    flags.DEFINE_bool(
        "compile_cache", True, "Keep compiled programs in the user's cache directory."
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
