"""The switches of jax that the commands set themselves, because a run's result depends on them.

A user can set any switch of jax with an environment variable. Random numbers and dtypes belong to
the config, so no switch may change them. All other switches keep the user's values; those that can
change bits are part of the environment that a summary records.
"""

from collections.abc import Mapping
from typing import Any

import jax

from experiments.program.state import PRNG_IMPL

PINNED: Mapping[str, Any] = {
    # Decides which bits threefry draws. It is read when a program is compiled, so it must hold for
    # the whole command.
    "jax_threefry_partitionable": True,
    # The keys of a run name their generator; this is for keys that a user's own code makes.
    "jax_default_prng_impl": PRNG_IMPL,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    # A run derives the keys of every step from one key that never changes, which this would refuse.
    "jax_debug_key_reuse": False,
    # The config names every dtype that matters. With x64, the others would become 64 bits wide.
    "jax_enable_x64": False,
    # Strict promotion refuses programs of flax, optax, and clu: bfloat16 layers with float32
    # statistics, Adam's counter, an average. The tests of our own code run under it.
    "jax_numpy_dtype_promotion": "standard",
}


def pin() -> None:
    """Sets the pinned switches for this process; call it before anything is traced.

    >>> pin()
    >>> jax.config.jax_enable_x64
    False
    """
    for name, value in PINNED.items():
        jax.config.update(name, value)
