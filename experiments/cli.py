"""How every command starts and ends: flags, config, and one sentence for a user's mistake."""

import functools
import importlib.metadata
import logging
import os
import re
import runpy
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from experiments.errors import Stopped, UserError

OWN_PACKAGES = {"__main__", "configs", "experiments", "loganneal_jax"}
USAGE_ERROR = 2
INTERRUPTED = 128 + signal.SIGINT


def run(
    main: Callable[..., None], *, positional: bool = False, default_config: Path | None = None
) -> NoReturn:
    """Parses the flags, runs a command, and exits.

    The exit code is 0 if `main` returns; 2 after a `UserError`, a file that cannot be read or
    written, or invalid flags; and 128 + signal after a signal: 130 for Ctrl-C, 143 for SIGTERM.

    Args:
      main: the command.
      positional: whether `main` takes positional arguments, which may stand anywhere among the
        flags. Otherwise they are refused.
      default_config: the config file to use without --config, or None.
    """
    _raise_only_own_warnings()
    flags.FLAGS.set_gnu_getopt(positional)

    def guarded(arguments: list[str]) -> None:
        _quiet_log()
        sys.unraisablehook = _ignore_late_writes
        try:
            if len(arguments) > 1 and not positional:
                raise UserError(
                    f"unexpected argument {arguments[1]!r}; pass options as --NAME=VALUE"
                )
            main(*arguments[1:])
        except UserError as error:
            _end(f"error: {error}", USAGE_ERROR)
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            _end(f"error: {error.strerror or error}{place}", USAGE_ERROR)
        except Stopped as stopped:
            _end(str(stopped), stopped.exit_code)
        except KeyboardInterrupt:
            _end("interrupted", INTERRUPTED)

    app.run(guarded, flags_parser=functools.partial(_parse, default_config=default_config))


def _raise_only_own_warnings() -> None:
    """Prints warnings of other packages where `PYTHONWARNINGS=error` would raise them.

    A deprecation inside an installed package is nothing that a user of the command can change.
    """
    if not any(action == "error" for action, *_ in warnings.filters):
        return
    installed = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions()}
    others = "|".join(map(re.escape, installed - OWN_PACKAGES))
    warnings.filterwarnings("default", module=rf"({others})(\.|$)")


def _quiet_log() -> None:
    """Keeps the run's own log lines, with their time, and warnings.

    Orbax logs about 200 lines per run and a traceback for every failed save, and tfds warns about
    problems that `datasets.describe` reports too. A `UserError` says what the user needs to know.
    """

    def ours_or_warning(record: logging.LogRecord) -> bool:
        if re.search(r"[/\\](orbax|tensorflow_datasets)[/\\]", record.pathname):
            return False
        return record.levelno >= logging.WARNING or record.filename == "logging_writer.py"

    handler = absl_logging.get_absl_handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(ours_or_warning)


def _ignore_late_writes(unraisable: "sys.UnraisableHookArgs") -> None:
    """Calls Python's own hook, except for writes that end after a failed save.

    When a file cannot be written, Orbax closes its event loop. Each remaining write then reports to
    the closed loop, with a traceback.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def give_up(sentence: str) -> NoReturn:
    """Ends the process from any thread, as after a `UserError` with this sentence."""
    _end(f"error: {sentence}", USAGE_ERROR)


def _end(sentence: str, exit_code: int) -> NoReturn:
    """Ends the process at once, with this sentence as its last line.

    On a full disk, the threads and exit handlers of Orbax and TensorFlow would fail again with
    tracebacks, or wait forever. Everything that had to be saved is already saved.
    """
    print(sentence, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _parse(arguments: list[str], *, default_config: Path | None) -> list[str]:
    """Checks the overrides of config fields against the config, and parses the flags."""
    if default_config and not any(re.match(r"--?config(=|$)", each) for each in arguments):
        program, *rest = arguments
        arguments = [program, f"--config={default_config}", *rest]
    try:
        files = [re.fullmatch(r"--?config=(.+)", argument) for argument in arguments]
        for file in filter(None, files):
            config = _load_config(file[1])
            for argument in arguments:
                override = re.match(r"--?(?:no)?config\.([^=]+)", argument)
                if override:
                    _check_field(config, override[1])
        return flags.FLAGS(arguments)
    except (UserError, flags.Error) as error:
        _end(f"error: {error}", USAGE_ERROR)


def _load_config(path_and_argument: str) -> ConfigDict:
    path, *argument = path_and_argument.split(":", 1)
    try:
        names = runpy.run_path(path)
        if "get_config" not in names:
            raise UserError(f"--config={path} has no function get_config")
        config = names["get_config"](*argument)
        if not isinstance(config, ConfigDict):
            raise UserError(f"--config={path}: get_config must return a ConfigDict, got {config!r}")
        return config
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"--config={path} cannot be read: {error.strerror}") from error
    except SyntaxError as error:
        raise UserError(f"--config={path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        # Without a line if get_config itself was not entered because it takes no argument.
        lines = [f", line {frame.lineno}" for frame in frames if frame.filename == path]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"--config={path}{''.join(lines[-1:])}: {reason}") from error


def _check_field(config: Mapping[str, Any], path: str) -> None:
    section: Any = config
    walked = "config"
    for name in path.split("."):
        if not isinstance(section, ConfigDict):
            raise UserError(f"{walked} is a value, not a section, so there is no --config.{path}")
        if name not in section:
            raise UserError(
                f"unknown config field --config.{path}: {walked} has {', '.join(sorted(section))}"
            )
        section, walked = section.get(name), f"{walked}.{name}"


def config_name() -> str:
    """Returns the name of the --config file, without its directory and extension."""
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    return re.split(r"[/\\]", file)[-1].removesuffix(".py")
