"""What a chip could do at most, and how long a step must take on it at least.

The peaks are those of the makers' pages; nothing was measured. The estimate has no latencies, no
overlap and nothing that waits for the host: a real step takes longer.
"""

from typing import NamedTuple


class Chip(NamedTuple):
    """The published peaks of a chip.

    Attributes:
      flops: floating-point operations a second of bfloat16 matrix products; those of float32 are
        computed in bfloat16 at jax's default precision.
      hbm_bytes: memory.
      hbm_bandwidth: bytes a second from and to it.
      ici_bandwidth: bytes a second that it sends to the chips it is connected with, over all its
        links together.
      pod_chips: chips that are connected with each other at most.
    """

    flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    ici_bandwidth: float
    pod_chips: int


# https://docs.cloud.google.com/tpu/docs/ v4, v5e, v5p and v6e, read in November 2026. The pages of
# v4, v5e and v6e give the bandwidth of an all-reduce in a whole pod, here divided by its chips; the
# one of v5p gives the chip's own, 4800 Gbit/s.
CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1200e9, 1.1e15 / 4096, 4096),
    "v5e": Chip(197e12, 16e9, 819e9, 51.2e12 / 256, 256),
    "v5p": Chip(459e12, 95e9, 2765e9, 4800e9 / 8, 8960),
    "v6e": Chip(918e12, 32e9, 1638e9, 102.4e12 / 256, 256),
}


class Estimate(NamedTuple):
    """The least seconds of a step, by what it waits for.

    Attributes:
      compute: for the matrix units.
      memory: for the chip's memory.
      interconnect: for the other chips.
    """

    compute: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """Of the whole step, where the three overlap fully."""
        return max(self)

    @property
    def bound(self) -> str:
        """What the step waits for."""
        return max(zip(self, self._fields, strict=True))[1]


def estimate(
    chip: Chip, *, flops: float, bytes_accessed: float, collective_bytes: float, num_chips: int
) -> Estimate:
    """The roofline of a step (Williams et al. 2009, doi:10.1145/1498765.1498785).

    An all-reduce of B bytes over n chips has each of them send 2 B (n - 1) / n.

    Args:
      chip: of `CHIPS`.
      flops: operations of the step on one chip.
      bytes_accessed: bytes that the step moves from and to the memory of one chip.
      collective_bytes: bytes that are reduced over all chips in a step.
      num_chips: chips.

    Returns:
      The estimate.

    >>> chip = Chip(100.0, 1e9, 10.0, 4.0, 256)
    >>> least = estimate(chip, flops=200, bytes_accessed=30, collective_bytes=4, num_chips=2)
    >>> least
    Estimate(compute=2.0, memory=3.0, interconnect=1.0)
    >>> least.seconds, least.bound
    (3.0, 'memory')
    """
    sent = 2 * collective_bytes * (num_chips - 1) / num_chips
    return Estimate(
        flops / chip.flops, bytes_accessed / chip.hbm_bandwidth, sent / chip.ici_bandwidth
    )
