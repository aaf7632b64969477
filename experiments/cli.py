"""How every command starts and ends: flags, config, and a user's mistakes in one sentence."""

import logging
import os
import re
import runpy
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from experiments.errors import Stopped, UserError

USAGE_ERROR = 2
INTERRUPTED = 128 + signal.SIGINT


def run(main: Callable[..., None], *, positional: bool = False) -> NoReturn:
    """Parses the flags, runs a command and exits.

    The exit code is 0 when `main` returns, 2 after a `UserError`, a file that cannot be read or
    written or flags that cannot be used, and 128 + signal after a signal that asked it to stop: 130
    after Ctrl-C, 143 after SIGTERM.

    Args:
      main: the command.
      positional: whether `main` takes the arguments that are no flags, which may stand before,
        between and after the flags; without it they are refused.
    """
    flags.FLAGS.set_gnu_getopt(positional)

    def guarded(arguments: list[str]) -> None:
        _quiet_log()
        sys.unraisablehook = _unless_of_a_failed_save
        try:
            if len(arguments) > 1 and not positional:
                raise UserError(
                    f"unexpected argument {arguments[1]!r}; every option is --NAME=VALUE"
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

    app.run(guarded, flags_parser=_parse)


def _quiet_log() -> None:
    """Leaves of the log the run's own lines, with the time before them, and warnings.

    Orbax logs some two hundred lines a run and a traceback of every save that fails, tfds warns of
    what `describe` then says: what of it the user must know, a `UserError` tells.
    """

    def ours_or_warning(record: logging.LogRecord) -> bool:
        if re.search(r"[/\\](orbax|tensorflow_datasets)[/\\]", record.pathname):
            return False
        return record.levelno >= logging.WARNING or record.filename == "logging_writer.py"

    handler = absl_logging.get_absl_handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(ours_or_warning)


def _unless_of_a_failed_save(unraisable: "sys.UnraisableHookArgs") -> None:
    """Python's own hook, but for what is left of a save that fails.

    With the first file that cannot be written Orbax closes its event loop, to which the others then
    report, each with a traceback.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def give_up(sentence: str) -> NoReturn:
    """Ends the process, from any of its threads, as after a `UserError` of this sentence."""
    _end(f"error: {sentence}", USAGE_ERROR)


def _end(sentence: str, exit_code: int) -> NoReturn:
    """Ends the process with this as its last line.

    At once: where a disk is full, the threads and exit handlers of Orbax and TensorFlow fail again,
    each with a traceback of its own, or wait for ever. What had to be saved is saved.
    """
    print(sentence, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _parse(arguments: list[str]) -> list[str]:
    """Parses the flags, having checked the overrides of config fields against the config."""
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
            raise UserError(f"--config={path}: get_config returns no ConfigDict but {config!r}")
        return config
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"--config={path} cannot be read: {error.strerror}") from error
    except SyntaxError as error:
        raise UserError(f"--config={path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        # A function that does not take the argument was not entered.
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
    """The name of the config file given by --config, without directory and ending."""
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    return re.split(r"[/\\]", file)[-1].removesuffix(".py")
