"""How every command starts and ends: flags, config, and one sentence for a user's mistake."""

import contextlib
import functools
import importlib.metadata
import importlib.util
import logging
import os
import re
import signal
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from experiments import packaged, streams
from experiments.build import fields
from experiments.build.ranges import shown
from experiments.errors import Stopped, UserError
from experiments.packaged import base, sweeps_base

OWN_PACKAGES = {"__main__", "configs", "experiments", "loganneal_jax"}
USAGE_ERROR = 2
INTERRUPTED = 128 + signal.SIGINT
BUCKETS = {"gs://": "gcsfs", "s3://": "s3fs"}  # scheme -> package that opens it without TensorFlow
PATHS = ("TFDS_DATA_DIR", "XDG_CACHE_HOME")  # environment variables that may begin with ~
_GIVEN: dict[str, Any] = {}  # fields of the config that the command line sets


def run(
    main: Callable[..., None], *, positional: bool = False, default_config: str | None = None
) -> NoReturn:
    """Parses the flags, runs a command, and exits.

    The exit code is 0 if `main` returns; 2 after a `UserError`, a file that cannot be read or
    written, or invalid flags; and 128 + signal after a signal: 130 for Ctrl-C, 143 for SIGTERM.

    Args:
      main: the command.
      positional: whether `main` takes positional arguments, which may stand anywhere among the
        flags. Otherwise they are refused.
      default_config: the config to use without --config, or None.
    """
    _raise_only_own_warnings()
    streams.make_safe()
    for name in set(PATHS) & os.environ.keys():
        os.environ[name] = os.path.expanduser(os.environ[name])
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
            sys.stdout.flush()
        except UserError as error:
            _end(f"error: {error}", USAGE_ERROR)
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            _end(f"error: {error.strerror or error}{place}", USAGE_ERROR)
        except Stopped as stopped:
            _end(str(stopped), stopped.exit_code)
        except KeyboardInterrupt:
            _end("interrupted", INTERRUPTED)
        except Exception as error:
            if not _out_of_memory(error):
                raise
            _end(
                f"error: out of memory ({' '.join(str(error).split())[:200]}); {fields.SMALLER}",
                USAGE_ERROR,
            )

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


def _out_of_memory(error: Exception) -> bool:
    """Returns whether the memory of the host or of a device was too small."""
    # jax.errors.JaxRuntimeError, whose import takes a second.
    from_jax = type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
    return isinstance(error, MemoryError) or (from_jax and "RESOURCE_EXHAUSTED" in str(error))


def _quiet_log() -> None:
    """Keeps the run's own log lines, with their time, and warnings.

    Orbax logs about 200 lines per run and a traceback for every failed save, and tfds warns about
    problems that `datasets.describe` reports too. A `UserError` says what the user needs to know.
    """

    def ours_or_warning(record: logging.LogRecord) -> bool:
        if re.search(r"[/\\](orbax|tensorflow_datasets)[/\\]", record.pathname):
            return False
        return record.levelno >= logging.WARNING or record.filename == "telemetry.py"

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
    with contextlib.suppress(OSError):  # the place of the output may be full
        print(sentence, file=sys.stderr)
        sys.stderr.flush()
        sys.stdout.flush()
    os._exit(exit_code)


def _parse(arguments: list[str], *, default_config: str | None) -> list[str]:
    """Checks the overrides of config fields against the config, and parses the flags."""
    arguments = _normalized(arguments)
    if default_config and not any(re.match(r"--?config(=|$)", each) for each in arguments):
        program, *rest = arguments
        arguments = [program, f"--config={default_config}", *rest]
    try:
        files = [re.fullmatch(r"--?config=(.+)", argument) for argument in arguments]
        names = [file[1] for file in files if file]
        configs = {name: _load_config(name) for name in names}
        if configs and "config" in flags.FLAGS:
            flags.FLAGS["config"].parser = _Loaded(configs)
            config = configs[names[-1]]
            for argument in arguments:
                override = re.match(r"--?(?:no)?config\.([^=]+)", argument)
                if override:
                    _check_field(config, override[1])
            return _set_nones(config, arguments)
        return flags.FLAGS(arguments)
    except SystemExit:
        sys.exit(0)  # absl prints the help, and would exit with 1
    except (UserError, flags.Error) as error:
        _end(f"error: {error}", USAGE_ERROR)


def _normalized(arguments: list[str]) -> list[str]:
    """Returns the arguments with `--config FILE` as `--config=FILE`, and with `~` expanded."""
    joined: list[str] = []
    for argument in arguments:
        previous = joined[-1] if joined else ""
        is_none = argument == "None" and re.fullmatch(r"--?config\.[^=]+", previous)
        if is_none or re.fullmatch(r"--?config", previous):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return [_expanded(argument) for argument in joined]


def _expanded(argument: str) -> str:
    """Returns an argument, or a flag with a value, in which a leading `~` is the home directory."""
    if not argument.startswith("-"):
        return os.path.expanduser(argument)
    flag, equals, value = argument.partition("=")
    return flag + equals + os.path.expanduser(value)


class _Loaded(flags.ArgumentParser):
    """Gives the flag --config the config that was loaded already.

    A second execution of the file would register a tfds builder in it twice.
    """

    def __init__(self, configs: Mapping[str, ConfigDict]) -> None:
        self.configs = configs

    def parse(self, argument: str) -> ConfigDict:
        """Returns the config of a file and its argument, whose fields are now fixed."""
        return self.configs[argument].lock()


def _set_nones(config: ConfigDict, arguments: list[str]) -> list[str]:
    """Parses the flags; sets the fields with the value None, which ml_collections cannot read."""
    given: dict[str, bool] = {}  # field -> whether its last value is None
    others: list[str] = []
    for argument in arguments:
        override = re.fullmatch(r"--?config\.([^=]+)=(.*)", argument, re.DOTALL)
        if override:
            given[override[1]] = override[2] == "None"
        if not override or override[2] != "None":
            others.append(argument)
    nones = [path for path, is_none in given.items() if is_none]
    for path in nones:
        _check_none(config, path)
    rest = flags.FLAGS(others)
    for path in nones:
        *sections, name = path.split(".")
        section = config
        for each in sections:
            section = section[each]
        with section.ignore_type():
            section[name] = None
    _GIVEN.update(given, **config_flags.get_override_values(flags.FLAGS["config"]))
    return rest


def _check_none(config: ConfigDict, path: str) -> None:
    """Refuses None for a field whose default is another value."""
    defaults = base.get_config()
    if "settings" in config:
        defaults = sweeps_base.make(defaults)
    value: Any = defaults
    for name in path.split("."):
        if name not in value:
            return  # a field of the user's own
        value = value[name]
    if value is not None:
        raise UserError(
            f"--config.{path}=None is not allowed, because the field always has a value; its "
            f"default is {shown(value)}"
        )


def _load_config(path_and_argument: str) -> ConfigDict:
    path, *argument = path_and_argument.split(":", 1)
    file = str(packaged.find(path))
    try:
        module = types.ModuleType("config_file")
        module.__file__ = file
        sys.modules[module.__name__] = module  # where tfds looks for the code of a builder
        exec(compile(Path(file).read_bytes(), file, "exec"), vars(module))
        if not hasattr(module, "get_config"):
            raise UserError(f"--config={path} has no function get_config")
        config = module.get_config(*argument)
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
        lines = [f", line {frame.lineno}" for frame in frames if frame.filename == file]
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


def given_fields() -> tuple[str, ...]:
    """Returns the dotted fields of the config that the command line sets."""
    return tuple(_GIVEN)


def config_name() -> str:
    """Returns the name of the --config file and its argument: "mnist-nn2" for mnist.py:nn2.

    It has no directory, no extension, and no characters that a shell or a file system interprets.
    """
    file, *argument = config_flags.get_config_filename(flags.FLAGS["config"]).split(":", 1)
    name = re.split(r"[/\\]", file)[-1].removesuffix(".py")
    return re.sub(r"[^\w.+-]+", "-", "-".join([name, *argument]))


def directory(flag: str, path: str) -> str:
    """Checks the path of a directory, which may be in object storage.

    Args:
      flag: name of the flag, for the error message.
      path: the path.

    Returns:
      The path.

    Raises:
      UserError: the path has a scheme that is unknown, or that no installed package opens.
    """
    scheme = re.match(r"([^/]*):/", path)
    if not scheme:
        return path
    package = BUCKETS.get(path[: scheme.end() + 1])
    if package is None:
        raise UserError(
            f"--{flag}={path} has the unknown scheme {scheme[1]}; use a local path, or one that "
            f"begins with {' or '.join(BUCKETS)}"
        )
    if not any(map(importlib.util.find_spec, ("tensorflow", package))):
        raise UserError(
            f"--{flag}={path} needs TensorFlow or {package}, and neither is installed; run pip "
            "install 'loganneal-jax[tensorflow]'"
        )
    return path
