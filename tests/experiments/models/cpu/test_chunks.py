"""Checks that a batch processed in chunks gives the results of the batch."""

from functools import partial

import jax
import numpy as np
import pytest

from experiments.models.cpu import chunks


@pytest.mark.parametrize("batch", [1, 7, 12])
def test_chunks_give_the_results_of_the_batch(monkeypatch, batch):
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((batch, *rest)).astype(np.float32) for rest in ((5, 3), (2,)))
    for images in (1, 3, 100):
        monkeypatch.setattr(chunks, "CHUNK_BYTES", images * x[0].nbytes)
        sizes = set()

        def double(x, sizes=sizes):
            sizes.add(len(x))
            return 2 * x[:, 0]

        np.testing.assert_array_equal(jax.jit(partial(chunks.mapped, double))(x), 2 * x[:, 0])
        # All chunks have the same size, which divides the batch.
        (size,) = sizes
        assert batch % size == 0
        assert size <= min(images, max(1, batch // 2))
        totals = jax.jit(partial(chunks.summed, lambda x, y: (x.sum(0), x[:, 0].T @ y)))(x, y)
        np.testing.assert_allclose(totals[0], x.sum(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(totals[1], x[:, 0].T @ y, rtol=1e-5, atol=1e-5)
