"""Evaluates the calls of peer_rows.toml, the schedules that the library shares with its peers.

Each row names a behavior, our call, and each peer's call that returns the same values. The test
module test_peers.py evaluates our call and compares it with the values in peer_values.json, which
were recorded from the peers themselves. Where a peer is installed, it also checks the recording.

    python -m tests.loganneal_jax.peer_rows            prints the table of docs/peers.md
    python -m tests.loganneal_jax.peer_rows --record   records peer_values.json; needs all peers
"""

import argparse
import functools
import importlib
import importlib.metadata
import json
import os
import pathlib
import tomllib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import loganneal_jax as la

CALLS = pathlib.Path(__file__).with_name("peer_rows.toml")
VALUES = pathlib.Path(__file__).with_name("peer_values.json")
# Library -> the module whose names its calls use.
MODULES = {
    "optax": "optax",
    "PyTorch": "torch.optim.lr_scheduler",
    "timm": "timm.scheduler",
    "transformers": "transformers.optimization",
    "Keras": "keras.optimizers.schedules",
}
PACKAGES = {"PyTorch": "torch", "Keras": "keras"}


class Row(NamedTuple):
    """A behavior and the calls that have it. The fields are described in peer_rows.toml."""

    behavior: str
    ours: str
    peers: dict[str, str] = {}  # noqa: RUF012
    num_steps: int = 60
    quantity: str = "lr"


ROWS = [Row(**row) for row in tomllib.loads(CALLS.read_text())["row"]]


def ours(row):
    """Evaluates our call at each step."""
    names = {**vars(la), "optax": optax, "partial": functools.partial}
    return tabulate(eval(row.ours, names), row.num_steps)


def theirs(row, library):
    """Evaluates a peer's call at each step."""
    names = vars(importlib.import_module(MODULES[library]))
    call = row.peers[library]
    if library in ("optax", "Keras"):
        return tabulate(eval(call, {**names, "optax": optax}), row.num_steps)
    torch = importlib.import_module("torch")
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    scheduler = eval(call, {**names, "sgd": sgd})
    values = []
    for step in range(row.num_steps):
        if library == "timm":
            scheduler.step(step)
        values.append(float(sgd.param_groups[0][row.quantity]))
        sgd.step()
        if library != "timm" and step + 1 < row.num_steps:
            scheduler.step()
    return np.array(values)


def tabulate(schedule, num_steps):
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(num_steps)), np.float64)


def recorded(row, library):
    """Returns the recorded values of a peer's call."""
    return np.array(recording()[library]["values"][key(row, library)])


def key(row, library):
    """Returns the name of a recording: the peer's call and the number of steps."""
    quantity = "" if row.quantity == "lr" else f" {row.quantity}"
    return f"{row.peers[library]}{quantity}, {row.num_steps} steps"


@functools.cache
def recording():
    return json.loads(VALUES.read_text())


def record():
    """Calls all peers and writes their values, with their versions, to peer_values.json."""
    libraries = {}
    for library in MODULES:
        package = PACKAGES.get(library, library)
        values = {
            key(row, library): [float(f"{value:.9g}") for value in theirs(row, library)]
            for row in ROWS
            if library in row.peers
        }
        libraries[library] = {"version": importlib.metadata.version(package), "values": values}
    text = json.dumps(libraries, separators=(",", ":")).replace('],"', '],\n"')
    VALUES.write_text(text + "\n")


def table():
    """Returns the table of docs/peers.md."""
    lines = [
        f"| behavior | {' | '.join(MODULES)} | ours |",
        f"|{'---|' * (len(MODULES) + 2)}",
    ]
    for row in ROWS:
        names = [row.peers.get(library, "").split("(")[0] for library in MODULES]
        cells = [f"`{name.removeprefix('optax.')}`" if name else "" for name in names]
        lines.append(f"| {row.behavior} | {' | '.join(cells)} | `{row.ours}` |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="record peer_values.json")
    os.environ.setdefault("KERAS_BACKEND", "jax")
    record() if parser.parse_args().record else print(table(), end="")
