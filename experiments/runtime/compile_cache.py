"""Keeps compiled programs in the user's cache directory for the next start."""

import contextlib
import glob
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import platformdirs
from absl import logging

MAX_BYTES = 2**30
# Cache even single operations: a start compiles more than a hundred of them.
MIN_COMPILE_SECONDS = 0.0
# jaxlib 0.12 cannot store convolutions by oneDNN, which programs in bfloat16 on a CPU contain. jax
# warns and goes on with the compiled program.
UNWRITABLE = "Error writing persistent compilation cache entry for '.*': .*std::bad_alloc"
UNREADABLE = "Error reading persistent compilation cache entry for"  # a warning of jax


def use(wanted: bool, *, is_worker: bool = False) -> None:
    """Switches jax's compilation cache on or off; call it before anything is compiled.

    JAX_COMPILATION_CACHE_DIR takes precedence, and jax then manages that directory alone. Otherwise
    the cache is in the user's cache directory, unless that cannot be written.

    A run of several processes uses only a directory that the user set. Only the first process
    writes the cache, so on another host the same program would be compiled while the first process
    reads it, and compilers of one program for GPUs on several hosts may wait for each other.

    Args:
      wanted: whether to use the cache.
      is_worker: whether other processes compile the same programs. A program that is damaged may
        then be one that another process is writing, so there is no warning.
    """
    if not wanted:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    warnings.filterwarnings("ignore", message=UNWRITABLE)
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") or jax.process_count() > 1:
        return
    directory = platformdirs.user_cache_path("loganneal_jax") / "compiled"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
        _delete_oldest(directory)
    except OSError as error:
        logging.warning(
            "compiled programs are not cached: the directory %s cannot be written (%s); set "
            "XDG_CACHE_HOME to a writable directory, or pass --nocompile_cache",
            directory,
            error.strerror,
        )
        return
    jax.config.update("jax_compilation_cache_dir", os.fspath(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    _replace_damaged(directory, quietly=is_worker)


def _replace_damaged(directory: Path, *, quietly: bool) -> None:
    """Deletes a program that jax cannot read, so that jax stores it again.

    A kill in the middle of a write leaves half a program. jax warns, compiles the program, and
    keeps the damaged file, so the next start would warn again. jax calls this handler before it
    compiles. The warning has the name of the program, which other shapes share.
    """
    show = warnings.showwarning
    told = quietly

    def handle(message: Warning | str, *rest: Any, **named: Any) -> None:
        nonlocal told
        damaged = re.match(f"{UNREADABLE} '(.+?)':", str(message))
        if damaged is None:
            show(message, *rest, **named)
            return
        for file in directory.glob(f"{glob.escape(damaged[1])}-*"):
            with contextlib.suppress(OSError):  # another run may have deleted it
                file.unlink()
        if not told:
            print(
                f"warning: {directory} has damaged programs, which are compiled again",
                file=sys.stderr,
            )
            told = True

    warnings.filterwarnings("always", message=UNREADABLE)
    warnings.showwarning = handle


def _delete_oldest(directory: Path) -> None:
    """Deletes the oldest programs beyond a total of one gigabyte.

    jax's own size limit locks the directory for every program it reads, and a process that is
    killed between two files can leave it unable to write.
    """
    files = []
    for file in directory.iterdir():
        if file.is_file():
            with contextlib.suppress(FileNotFoundError):  # another run may have deleted it
                status = file.stat()
                files.append((status.st_mtime, status.st_size, file))
    size = 0
    for _, file_size, file in sorted(files, reverse=True):
        size += file_size
        if size > MAX_BYTES:
            file.unlink(missing_ok=True)
