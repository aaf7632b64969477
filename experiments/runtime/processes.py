"""Runs with several processes: how the processes find each other, and what they agree on.

All processes run the same program with the same config, and each compiled program runs on the
devices of all of them. Before a process acts on something that only it knows, it shares it.
"""

import contextlib
import glob
import hashlib
import importlib.util
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.errors import UserError

Result = TypeVar("Result")
SENTENCE_BYTES = 4096
# Added to our own timeout; at its own, jax would abort the process with a C++ stack trace.
AFTER_TIMEOUT_SECONDS = 60
SHUTDOWN_SECONDS = 60
MIN_CPU_THREADS = 8


class Cluster(NamedTuple):
    """How the processes of a run find each other; None leaves it to the environment.

    Attributes:
      coordinator_address: HOST:PORT of process 0, reachable from all processes.
      num_processes: number of processes.
      process_id: index of this process, from 0.
      timeout: seconds to wait for the other processes at the start.
    """

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    timeout: float = 300


@contextlib.contextmanager
def joined(cluster: Cluster, give_up: Callable[[str], NoReturn]) -> Iterator[None]:
    """Connects the processes of a run, and disconnects them together at the end.

    Without an address, jax detects a SLURM job step with several tasks and a TPU VM; elsewhere the
    process runs alone. It must be called before any computation.

    Args:
      cluster: how the processes find each other.
      give_up: ends the process with a sentence if the others do not answer in time.

    Raises:
      UserError: the description of the cluster is incomplete or wrong.
    """
    _check(cluster)
    if cluster.coordinator_address is None and not _in_cluster():
        yield
        return
    # On a CPU, each device that waits for others blocks one of XLA's threads. XLA has one thread
    # per core, which is too few on two cores.
    os.environ.setdefault("NPROC", str(max(MIN_CPU_THREADS, os.cpu_count() or 1)))
    if cluster.process_id == 0:
        _check_port(cluster.coordinator_address or "")
    address = cluster.coordinator_address or "the coordinator that the environment names"
    sentence = (
        f"no answer from all processes through {address} within {cluster.timeout:g} s: check that "
        "process 0 runs there, that every process was started with the same address and number of "
        "processes, each with its own process id, and that the port is open between the hosts"
    )
    timer = threading.Timer(cluster.timeout, lambda: give_up(sentence))
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            cluster.coordinator_address,
            cluster.num_processes,
            cluster.process_id,
            initialization_timeout=round(cluster.timeout) + AFTER_TIMEOUT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the processes cannot be joined through {address} ({reason})") from error
    finally:
        timer.cancel()
    try:
        yield
    finally:
        jax.distributed.shutdown()


def _check(cluster: Cluster) -> None:
    given = {
        "--coordinator_address": cluster.coordinator_address,
        "--num_processes": cluster.num_processes,
        "--process_id": cluster.process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise UserError(
            f"{', '.join(missing)} missing: pass all of {', '.join(given)}, or none of them where "
            "the environment defines them (SLURM, TPU VMs)"
        )
    if cluster.timeout <= 0:
        raise UserError(f"--coordinator_timeout={cluster.timeout:g} must be above 0 seconds")
    if missing:
        return
    address = re.fullmatch(r".+:(\d{1,5})", cluster.coordinator_address or "")
    if address is None or int(address[1]) >= 2**16:
        raise UserError(
            f"--coordinator_address={cluster.coordinator_address!r} must be HOST:PORT, such as "
            "10.0.0.1:1234"
        )
    num_processes, process_id = cluster.num_processes or 0, cluster.process_id or 0
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id={process_id} must be at least 0 and less than "
            f"--num_processes={num_processes}"
        )


def _check_port(address: str) -> None:
    """Refuses a port on which process 0 cannot listen, because jax would crash."""
    port = int(address.rsplit(":", 1)[1])
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise UserError(
            f"process 0 cannot listen on --coordinator_address={address!r} ({error}); choose "
            "another port"
        ) from error


def _in_cluster() -> bool:
    """Returns whether this process is one of several SLURM tasks, or runs on a TPU VM."""
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_NODELIST" in os.environ:
        return True
    # The device files of Cloud TPU chips: up to v4, and from v5e on.
    chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def is_first() -> bool:
    """Returns whether this process writes the files of the run."""
    return jax.process_index() == 0


def together(function: Callable[[], Result]) -> Result:
    """Calls a function in every process, and raises in all of them if it raises in one.

    Args:
      function: the function; it must not wait for other processes.

    Returns:
      The function's result in this process.

    Raises:
      UserError: the function raised a UserError or an OSError in some process.
    """
    if jax.process_count() == 1:
        return function()
    sentence = ""
    result = []
    try:
        result.append(function())
    except UserError as error:
        sentence = str(error)
    except OSError as error:
        sentence = f"{error.strerror or error}: {error.filename or ''}"
    sentences = _gathered(sentence.encode()[:SENTENCE_BYTES].ljust(SENTENCE_BYTES, b"\0"))
    for process, text in enumerate(sentences):
        if reason := text.rstrip(b"\0").decode(errors="ignore"):
            raise UserError(f"process {process}: {reason}")
    return result[0]


def check_same(config: Mapping[str, Any]) -> None:
    """Refuses to start if the processes have different configs.

    Args:
      config: the config of this process as a nested dict. The data directory and the
        number of workers may differ.

    Raises:
      UserError: the config of some process differs from that of process 0.
    """
    if jax.process_count() == 1:
        return
    hosts_own = {"data_dir": None, "workers": None}
    compared = {**config, "data": {**config["data"], **hosts_own}}
    text = json.dumps(compared, sort_keys=True)
    digests = _gathered(hashlib.sha256(text.encode()).digest())
    others = [str(process) for process, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise UserError(
            f"the config of process {', '.join(others)} differs from that of process 0; start "
            "every process with the same --config and the same overrides"
        )


def union(pairs: frozenset[tuple[int, int]]) -> frozenset[tuple[int, int]]:
    """Returns the union of the pairs of all processes, which call it at the same place."""
    if jax.process_count() == 1:
        return pairs
    text = json.dumps(sorted(pairs)).encode()
    lengths = [int.from_bytes(length) for length in _gathered(len(text).to_bytes(8))]
    texts = _gathered(text.ljust(max(lengths)))
    return frozenset((first, second) for each in texts for first, second in json.loads(each))


def wait_for_all(what: str) -> None:
    """Waits until every process reaches this place.

    Args:
      what: a name for this place, unique within the program.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def _gathered(text: bytes) -> list[bytes]:
    """Returns the text of every process; all texts have the same length."""
    rows = multihost_utils.process_allgather(np.frombuffer(text, np.uint8))
    return [bytes(row) for row in np.asarray(rows)]
