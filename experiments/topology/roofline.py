"""The published peaks of TPU chips, and the least time that a step takes on them.

The peaks are from the makers' pages; nothing was measured. The estimate ignores latency and the
host, so a real step takes longer.
"""

from typing import NamedTuple


class Chip(NamedTuple):
    """The published peaks of a chip.

    Attributes:
      flops: floating-point operations per second of bfloat16 matrix products. At jax's default
        precision, float32 products are computed in bfloat16 too.
      hbm_bytes: bytes of memory.
      hbm_bandwidth: bytes per second to and from memory.
      ici_bandwidth: bytes per second sent to connected chips, over all links together.
      pod_chips: largest number of connected chips.
    """

    flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    ici_bandwidth: float
    pod_chips: int


# https://docs.cloud.google.com/tpu/docs/ v4, v5e, v5p, and v6e, read in November 2026. The pages of
# v4, v5e, and v6e give the all-reduce bandwidth of a whole pod, divided by its chips here. The page
# of v5p gives the bandwidth of a chip, 4800 Gbit/s.
CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1200e9, 1.1e15 / 4096, 4096),
    "v5e": Chip(197e12, 16e9, 819e9, 51.2e12 / 256, 256),
    "v5p": Chip(459e12, 95e9, 2765e9, 4800e9 / 8, 8960),
    "v6e": Chip(918e12, 32e9, 1638e9, 102.4e12 / 256, 256),
}


class Estimate(NamedTuple):
    """The least time of a step in seconds, by the part of the chip that limits it.

    Attributes:
      compute: time of the matrix units.
      memory: time of memory traffic.
      interconnect: time of the exchange with other chips.
    """

    compute: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """Seconds of the step if the three overlap fully."""
        return max(self)

    @property
    def bound(self) -> str:
        """Name of the part that limits the step."""
        return max(zip(self, self._fields, strict=True))[1]


def estimate(
    chip: Chip, *, flops: float, bytes_accessed: float, collective_bytes: float, num_chips: int
) -> Estimate:
    """Returns the roofline estimate of a step (Williams et al. 2009, doi:10.1145/1498765.1498785).

    In an all-reduce of B bytes over n chips, each chip sends 2 B (n - 1) / n bytes.

    Args:
      chip: a value of `CHIPS`.
      flops: operations of the step on one chip.
      bytes_accessed: bytes that the step moves to and from the memory of one chip.
      collective_bytes: bytes that all chips reduce in a step.
      num_chips: number of chips.

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
