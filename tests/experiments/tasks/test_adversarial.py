"""Adversarial losses equal their formulas, and the penalty a gradient by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.tasks.adversarial import LOSSES, penalties

LOGITS = np.array([-30.0, -1.5, 0.0, 0.5, 30.0], np.float32)


def log_sigmoid(x):
    return -np.logaddexp(0, -x.astype(np.float64))


FORMULAS = {
    "non_saturating": (
        lambda x: -log_sigmoid(x),
        lambda x: -log_sigmoid(-x),
        lambda x: -log_sigmoid(x),
    ),
    "hinge": (lambda x: np.maximum(0, 1 - x), lambda x: np.maximum(0, 1 + x), lambda x: -x),
    "wasserstein": (lambda x: -x, lambda x: x, lambda x: -x),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_equals_its_formula(name):
    loss = LOSSES[name]
    functions = (loss.real, loss.fake, loss.generator)
    for function, formula in zip(functions, FORMULAS[name], strict=True):
        np.testing.assert_allclose(
            function(jnp.asarray(LOGITS)), formula(LOGITS), rtol=1e-5, atol=1e-12
        )


def test_penalty_of_a_quadratic_logit_is_that_of_its_gradient():
    """The logit 1.5 |x|^2 has the gradient 3 x; that of a black image is 0 and finite."""
    images = np.random.default_rng(0).normal(size=(3, 2, 2, 1)).astype(np.float32)
    images[2] = 0
    result = penalties(lambda x: 1.5 * jnp.square(x).sum((1, 2, 3)), jnp.asarray(images))
    norms = 3 * np.sqrt(np.square(images).sum((1, 2, 3)))
    np.testing.assert_allclose(result, (norms - 1) ** 2, rtol=1e-5)
