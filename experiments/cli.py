"""How every command starts and ends: flags, config, and a user's mistakes in one sentence."""

import logging
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

from experiments.errors import UserError

USAGE_ERROR = 2
INTERRUPTED = 128 + signal.SIGINT


def run(main: Callable[..., None], *, positional: bool = False) -> NoReturn:
    """Parses the flags, runs a command and exits.

    The exit code is 0 when `main` returns, 2 after a `UserError` or flags that cannot be used, and
    130 after Ctrl-C.

    Args:
      main: the command.
      positional: whether `main` takes the arguments that are no flags, which may stand before,
        between and after the flags; without it they are refused.
    """
    flags.FLAGS.set_gnu_getopt(positional)

    def guarded(arguments: list[str]) -> None:
        _quiet_log()
        try:
            if len(arguments) > 1 and not positional:
                raise UserError(
                    f"unexpected argument {arguments[1]!r}; every option is --NAME=VALUE"
                )
            main(*arguments[1:])
        except UserError as error:
            _fail(error)
        except KeyboardInterrupt as interrupt:
            print("; ".join(["interrupted", *interrupt.args]), file=sys.stderr)
            sys.exit(INTERRUPTED)

    app.run(guarded, flags_parser=_parse)


def _quiet_log() -> None:
    """Leaves of the log the run's own lines, with the time before them, and warnings.

    Orbax alone logs some two hundred lines a run, and tfds warns of what `describe` then says.
    """

    def ours_or_warning(record: logging.LogRecord) -> bool:
        if "tensorflow_datasets" in record.pathname:
            return False
        return record.levelno >= logging.WARNING or record.filename == "logging_writer.py"

    handler = absl_logging.get_absl_handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.addFilter(ours_or_warning)


def _fail(error: Exception) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(USAGE_ERROR)


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
        _fail(error)


def _load_config(path_and_argument: str) -> ConfigDict:
    path, *argument = path_and_argument.split(":", 1)
    try:
        names = runpy.run_path(path)
        if "get_config" not in names:
            raise UserError(f"--config={path} has no function get_config")
        return names["get_config"](*argument)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"--config={path} cannot be read: {error.strerror}") from error
    except SyntaxError as error:
        raise UserError(f"--config={path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = [frame.lineno for frame in frames if frame.filename == path][-1]
        raise UserError(f"--config={path}, line {line}: {type(error).__name__}: {error}") from error


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
