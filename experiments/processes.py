"""Several processes that make one run: how they find each other, and what they agree on.

They all run the same program on the same config, and each compiled program runs on the devices of
all of them. What one process alone knows must become known to all before any of them acts on it.
"""

import contextlib
import glob
import hashlib
import importlib.util
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from experiments.errors import UserError

Result = TypeVar("Result")
SENTENCE_BYTES = 4096
# Beyond our own time-out, after which jax would abort the process with a trace of its C++.
AFTER_TIMEOUT_SECONDS = 60
SHUTDOWN_SECONDS = 60
MIN_CPU_THREADS = 8


class Cluster(NamedTuple):
    """How the processes of a run find each other; all None where the environment tells.

    Attributes:
      coordinator_address: HOST:PORT of the process 0, reachable from all.
      num_processes: processes of the run.
      process_id: which of them this is, from 0.
      timeout: seconds to wait for the others at the start.
    """

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    timeout: float = 300


@contextlib.contextmanager
def joined(cluster: Cluster, give_up: Callable[[str], NoReturn]) -> Iterator[None]:
    """Joins the processes of a run, if there are several, and leaves with them together.

    Without an address, a SLURM job step of several tasks and a TPU VM are found by jax; elsewhere
    this process is alone. No computation may precede it.

    Args:
      cluster: how they find each other.
      give_up: called with a sentence when the others do not answer in time; ends the process.

    Raises:
      UserError: the cluster is described by halves, or wrongly.
    """
    _check(cluster)
    if cluster.coordinator_address is None and not _in_cluster():
        yield
        return
    # On a CPU each device that waits for the others holds one of XLA's threads, of which there are
    # as many as cores: on two cores too few for the programs under way.
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
            f"{', '.join(missing)} missing: {', '.join(given)} are given together, or none of them "
            "where the environment tells (SLURM, TPU VMs)"
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
    """Refuses a port on which process 0 cannot listen; jax would crash there."""
    port = int(address.rsplit(":", 1)[1])
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise UserError(
            f"process 0 cannot listen on --coordinator_address={address!r} ({error}); choose "
            "another port"
        ) from error


def _in_cluster() -> bool:
    """Whether this is one of several SLURM tasks, or a TPU VM."""
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_NODELIST" in os.environ:
        return True
    # Where Cloud TPU has its chips: v4 and before, and from v5e on.
    chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def is_first() -> bool:
    """Whether this is the process that writes the run's files."""
    return jax.process_index() == 0


def together(function: Callable[[], Result]) -> Result:
    """Calls a function in every process; what one of them refuses, all refuse.

    Args:
      function: has no part in which processes wait for each other.

    Returns:
      What it returned in this process.

    Raises:
      UserError: it raised one here or in another process.
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
    said = _gathered(sentence.encode()[:SENTENCE_BYTES].ljust(SENTENCE_BYTES, b"\0"))
    for process, text in enumerate(said):
        if told := text.rstrip(b"\0").decode(errors="ignore"):
            raise UserError(f"process {process}: {told}")
    return result[0]


def check_same(config: ConfigDict) -> None:
    """Refuses to begin where the processes have different configs.

    Args:
      config: the run's config.

    Raises:
      UserError: another process has another one; the data directory may differ.
    """
    if jax.process_count() == 1:
        return
    same = config.copy_and_resolve_references()
    same.data.data_dir = None
    digests = _gathered(hashlib.sha256(same.to_json(sort_keys=True).encode()).digest())
    others = [str(process) for process, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise UserError(
            f"the config of process {', '.join(others)} is not that of process 0; start every "
            "process with the same --config and the same overrides"
        )


def wait_for_all(what: str) -> None:
    """Waits until every process has come here.

    Args:
      what: the same in every process, and another at every place.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def _gathered(text: bytes) -> list[bytes]:
    """What every process has to say, all of it of one length."""
    rows = multihost_utils.process_allgather(np.frombuffer(text, np.uint8))
    return [bytes(row) for row in np.asarray(rows)]


class Asked:
    """The signal that asked the run to stop, once all processes know of it.

    Alone, a process knows at once. Of several, each tells what it has heard with every dispatch,
    and all read the answers of the same dispatch at the same place, so that they stop at one step.

    Args:
      here: the signal that this process has heard, or None.
      mesh: of the strategy.
    """

    def __init__(self, here: Callable[[], int | None], mesh: Mesh) -> None:
        self._here = here
        self._heard = 0
        self._alone = jax.process_count() == 1
        self._shares = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._num_local = len(mesh.local_devices)
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._highest = jax.jit(lambda numbers: numbers.max(), out_shardings=everywhere)

    def __call__(self) -> int | None:
        """The number of the signal, or None."""
        return self._here() if self._alone else self._heard or None

    def tell(self) -> jax.typing.ArrayLike:
        """Sends the other processes what this one has heard; the answer is to be read later."""
        number = np.int32(self._here() or 0)
        if self._alone:
            return number
        numbers = np.full(self._num_local, number)
        return self._highest(jax.make_array_from_process_local_data(self._shares, numbers))

    def hear(self, answer: np.integer | np.ndarray) -> None:
        """Takes note of an answer, on the host."""
        self._heard = self._heard or int(answer)
