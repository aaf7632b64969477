"""Preprocessing on the device computes what training computed on the host."""

import jax
import numpy as np
import pytest

from experiments.data import on_device, preprocess
from experiments.data.preprocess import Step
from experiments.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 6, 6, 3), np.uint8)
IMAGES[3] = 7  # without contrast


def fitted(steps, images, zca_epsilon=0.1):
    arguments = []
    for step in steps.values():
        arguments.append(step.fit(images, zca_epsilon))
        images = step.apply(images, *arguments[-1])
    return arguments, images


def test_every_step_can_be_traced():
    assert on_device.TRACEABLE.keys() == preprocess.STEPS.keys()


@pytest.mark.parametrize(
    "names",
    [
        ("contrast_stretching", "global_contrast_normalization", "zca"),
        ("pixel_mean", "standardize"),
        (),
    ],
)
def test_chain_equals_that_of_training(names):
    steps = {name: preprocess.STEPS[name] for name in names}
    arguments, expected = fitted(steps, IMAGES)
    result = jax.jit(on_device.chain(steps, arguments))(IMAGES)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected.astype(np.float32), rtol=1e-4, atol=2e-4)


def test_step_of_the_user_is_called_as_it_is():
    simple = Step(
        lambda images, epsilon: (images.max(),),
        lambda images, largest: images.astype(np.float32) / largest,
    )
    numpy_only = Step(lambda images, epsilon: (), lambda images: np.sqrt(np.asarray(images)))
    largest = (np.asarray(IMAGES.max()),)
    expected = IMAGES.astype(np.float32) / IMAGES.max()
    chain = on_device.chain({"mine:simple": simple}, [largest])
    np.testing.assert_array_equal(chain(IMAGES), expected)
    np.testing.assert_allclose(jax.jit(chain)(IMAGES), expected, rtol=1e-6)
    chain = on_device.chain({"mine:numpy_only": numpy_only}, [()])
    np.testing.assert_allclose(chain(IMAGES[:1]), np.sqrt(IMAGES[:1]), rtol=1e-3)
    with pytest.raises(UserError, match=r"^the preprocessing step 'mine:numpy_only' uses NumPy"):
        jax.jit(chain)(IMAGES[:1])
