"""Compiled programs that are kept in the user's cache directory for the next start."""

import contextlib
import os
import tempfile
from pathlib import Path

import jax
import platformdirs
from absl import logging

MAX_BYTES = 2**30
# Also the programs of single operations, of which a start has more than a hundred.
MIN_COMPILE_SECONDS = 0.0


def use(wanted: bool) -> None:
    """Has jax keep what it compiles, and read it the next time; to be called before it compiles.

    The directory is that of JAX_COMPILATION_CACHE_DIR, if it is set, and then the user's to tend;
    else one in the user's cache directory, or none if that cannot be written.

    Several processes use none that the user has not set: only the first of them writes, so that on
    another host the same program would be compiled while the first reads it, and the compilers of
    one program for GPUs on several hosts may wait for each other.

    Args:
      wanted: whether anything is kept or read.
    """
    if not wanted:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") or jax.process_count() > 1:
        return
    directory = platformdirs.user_cache_path("loganneal_jax") / "compiled"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
        _delete_oldest(directory)
    except OSError as error:
        logging.warning(
            "what is compiled is not kept: the cache directory %s cannot be written (%s); set "
            "XDG_CACHE_HOME to one that can, or pass --nocompile_cache",
            directory,
            error.strerror,
        )
        return
    jax.config.update("jax_compilation_cache_dir", os.fspath(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)


def _delete_oldest(directory: Path) -> None:
    """Keeps the newest programs, a gigabyte of them.

    jax's own limit locks the directory for every program it reads, and a process that is killed
    between two of its files can leave it unable to write.
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
