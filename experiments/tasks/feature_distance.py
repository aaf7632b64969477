"""Distances between two sets of images in the features of a classifier: Frechet distance and KID.

Both are functions of sums over the images, which the device accumulates batch by batch. The end of
the computation runs on the host, in float64.
"""

import math
from typing import Any, Self

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from experiments.models.features import NUM_FEATURES


@flax.struct.dataclass
class Moments(clu_metrics.Metric):
    """Sums over images: powers of their features x of dimension d.

    Attributes:
      count: float32 scalar, the number of images.
      first: sum of x, float32 [d].
      second: sum of the products of two features, float32 [d, d].
      third: sum of the products of three features, float32 [d, d, d].
      own: sum of k(x, x), float32 scalar, where k is the kernel of `kid`.
    """

    count: jax.Array
    first: jax.Array
    second: jax.Array
    third: jax.Array
    own: jax.Array

    @classmethod
    def empty(cls) -> Self:
        """Returns the sums over no images."""
        d = NUM_FEATURES
        shapes = ((), (d,), (d, d), (d, d, d), ())
        return cls(*(jnp.zeros(shape, jnp.float32) for shape in shapes))

    @classmethod
    def from_model_output(cls, values: jax.Array, mask: jax.Array | None = None, **_: Any) -> Self:
        """Returns the sums over a batch.

        Args:
          values: float32 features [batch, d].
          mask: bool [batch], the images to count; None counts all.
        """
        counted = jnp.ones(len(values)) if mask is None else mask.astype(jnp.float32)
        x = jnp.where(counted[:, None] > 0, values, 0.0)
        d = x.shape[1]
        products = (x[:, :, None] * x[:, None, :]).reshape(-1, d * d)
        # Coarser products of an accelerator would change the distances.
        third = jnp.matmul(products.T, x, precision="highest")
        return cls(
            count=counted.sum(),
            first=x.sum(0),
            second=products.sum(0).reshape(d, d),
            third=third.reshape(d, d, d),
            own=(counted * (jnp.square(x).sum(1) / d + 1.0) ** 3).sum(),
        )

    def merge(self, other: Self) -> Self:
        """Returns the sums over the images of both."""
        return jax.tree.map(jnp.add, self, other)

    def compute(self) -> Any:
        """Returns the mean and the unbiased covariance of the features, float64 on the host."""
        count = np.asarray(self.count, np.float64)
        mean = np.asarray(self.first, np.float64) / count
        second = np.asarray(self.second, np.float64) / count
        return mean, (second - np.outer(mean, mean)) * (count / (count - 1))


def frechet_distance(ones: Moments, others: Moments) -> float:
    """Returns the squared Frechet distance of two normal distributions fitted to features.

        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2))

    The roots are those of symmetric matrices, from their eigenvalues. The distance of two samples
    of one distribution is above 0, and falls with the number of images.

    Args:
      ones: sums over one set of images, at least two.
      others: sums over the other set.

    Returns:
      The distance, in squared units of the features; NaN if they are not finite.

    Source: Heusel et al. 2017 (arXiv:1706.08500, section 3), whose features are those of Inception.
    """
    if not (_usable(ones) and _usable(others)):  # eigh raises
        return math.nan
    (mean, covariance), (other_mean, other_covariance) = ones.compute(), others.compute()
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T  # rounding can make a 0 negative
    inner = np.linalg.eigvalsh(root @ other_covariance @ root)
    return float(
        np.square(mean - other_mean).sum()
        + np.trace(covariance)
        + np.trace(other_covariance)
        - 2 * np.sqrt(np.maximum(inner, 0)).sum()
    )


def kid(ones: Moments, others: Moments) -> float:
    """Returns the unbiased squared maximum mean discrepancy with k(x, y) = (x . y / d + 1)^3.

        mean over pairs i != j of k(x_i, x_j) + the same of y - 2 mean of k(x_i, y_j)

    With k expanded in powers of x . y, the mean over all pairs is a sum of products of moments. So
    the discrepancy over all pairs is a sum of squared differences of moments, which does not cancel
    in float32. The pairs i = j are then removed:

        kid = sum_p (3 choose p) / d^p |M_p - N_p|^2 + (K - k) / (m - 1) + (L - l) / (n - 1)

    M_p and N_p are the mean p-th powers, K and L the mean kernels of all pairs, and k and l those
    of the pairs i = j, of m and n images.

    Args:
      ones: sums over one set of images, at least two.
      others: sums over the other set.

    Returns:
      The discrepancy. Its mean over samples of one distribution is 0, so it can be negative. NaN if
      the features are not finite.

    Source: Binkowski et al. 2018 (arXiv:1801.01401, section 3.1 and equation 4).
    """
    if not (_usable(ones) and _usable(others)):
        return math.nan
    means = [_means(moments) for moments in (ones, others)]
    total = _kernel([x - y for x, y in zip(*means, strict=True)])
    for moments, powers in zip((ones, others), means, strict=True):
        count = float(moments.count)
        total += (_kernel(powers) - float(moments.own) / count) / (count - 1)
    return total


def _usable(moments: Moments) -> bool:
    sums = (moments.first, moments.second, moments.third, moments.own)
    return float(moments.count) > 1 and all(np.isfinite(np.asarray(each)).all() for each in sums)


def _means(moments: Moments) -> list[np.ndarray]:
    """Returns the mean powers 0 to 3 of the features, in float64."""
    sums = (moments.count, moments.first, moments.second, moments.third)
    return [np.asarray(each, np.float64) / np.float64(moments.count) for each in sums]


def _kernel(powers: list[np.ndarray]) -> float:
    """Returns the kernel of a set with itself, from its mean powers."""
    d = len(powers[1])
    factors = (1, 3 / d, 3 / d**2, 1 / d**3)
    squares = (np.square(power).sum() for power in powers)
    return float(sum(f * square for f, square in zip(factors, squares, strict=True)))
