"""Trains many trials: python -m experiments.sweep --config=configs/sweeps/NAME.py [--workdir=DIR].

Set any field of the sweep's config with --config.FIELD=VALUE, and any field of its runs with
--config.base.FIELD=VALUE. The same command with the same workdir resumes the sweep.
"""

from absl import flags
from etils import epath
from ml_collections import config_flags

from experiments import cli
from experiments.build.sweeps import read_sweep
from experiments.errors import UserError
from experiments.program import switches
from experiments.runtime import compile_cache, environment
from experiments.sweeping.run import run


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
    compile_cache.use(flags.FLAGS.compile_cache)
    summary, was_finished = run(
        sweep, workdir, require_same_environment=flags.FLAGS.require_same_environment
    )
    print(
        f"{summary['trials']} trials ({summary['diverged']} diverged) in "
        f"{summary['seconds']:.0f} s; {'was finished before, in' if was_finished else 'wrote'} "
        f"{workdir}/trials.csv; for tables and figures: "
        f"python -m experiments.report {workdir} --out=DIR"
    )


def define_flags() -> None:
    """Defines the flags of the command; importing it must not, because other commands do too."""
    config_flags.DEFINE_config_file(
        "config", None, "Config of the sweep, a file in configs/sweeps/.", lock_config=True
    )
    flags.DEFINE_string("workdir", None, "Directory of the sweep; runs/NAME by default.")
    flags.DEFINE_bool(
        "require_same_environment",
        False,
        "Refuse to resume where versions, devices, threads, or flags differ, instead of warning.",
    )
    flags.DEFINE_bool(
        "compile_cache", True, "Keep compiled programs in the user's cache directory."
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
