"""Changes the code of preprocessing steps, whose cached results must change too."""

import importlib
import sys

import numpy as np
import pytest

from experiments.data import datasets, preprocess, source

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 200, (15, 7, 5, 3), np.uint8)
TEST = RNG.integers(50, 256, (4, 7, 5, 3), np.uint8)
DATASET = datasets.Dataset(TRAIN, np.zeros(15, np.int32), TEST, np.zeros(4, np.int32))

HALVED = preprocess.Step(
    fit=lambda images, zca_epsilon: (np.float32(images.max()),),
    apply=lambda images, largest: (images / (2 * largest)).astype(np.float32),
)


def test_step_outside_the_package_is_fitted_and_cached_with_its_source(cache_home, monkeypatch):
    name = f"{__name__}:HALVED"
    steps = {
        "contrast_stretching": preprocess.STEPS["contrast_stretching"],
        name: HALVED,
        "standardize": preprocess.STEPS["standardize"],
    }

    def prepare():
        return preprocess.prepare(DATASET, steps, zca_epsilon=0.1, cache_key="own step")[0]

    stretched = [preprocess.contrast_stretching(images) / 510 for images in (TRAIN, TEST)]
    fitted = preprocess.channel_statistics(stretched[0])
    expected = [preprocess.standardize(images, *fitted) for images in stretched]
    for images in (prepare(), prepare()):
        np.testing.assert_allclose(images.train_images, expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(images.test_images, expected[1], rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(preprocess, "apply_steps", None)
    prepare()
    monkeypatch.setattr(source, "code_of", lambda functions, modules: "another version")
    with pytest.raises(TypeError):
        prepare()


def own_steps(directory, monkeypatch):
    """Returns a function that writes and imports modules, and returns the step `own_step:STEP`."""
    monkeypatch.syspath_prepend(directory)

    def step(**modules):
        for module, code in modules.items():
            (directory / f"{module}.py").write_text(code)
            sys.modules.pop(module, None)
        importlib.invalidate_caches()
        return {"own_step:STEP": importlib.import_module("own_step").STEP}

    return step


ADD = """
import numpy as np
def apply(images):
    return (images + {number}).astype(np.float32)
"""
USE = """
from own_functions import apply
from experiments.data.preprocess import Step
STEP = Step(lambda images, epsilon: (), {apply})
"""


@pytest.mark.parametrize("apply", ["apply", "__import__('functools').partial(apply)"])
def test_changed_code_of_an_own_step_computes_again(apply, tmp_path, monkeypatch, cache_home):
    """The functions of a step may come from another module than the step."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    step = own_steps(tmp_path, monkeypatch)
    files = set()
    for number in (1, 2):
        steps = step(own_functions=ADD.format(number=number), own_step=USE.format(apply=apply))
        dataset = preprocess.prepare(
            DATASET, steps, zca_epsilon=0.1, cache_key=f"own {apply}"
        ).dataset
        np.testing.assert_array_equal(dataset.train_images, TRAIN + np.float32(number))
        files.add(frozenset((cache_home / "loganneal_jax" / "preprocessed").iterdir()))
    assert len(files) == 1  # the later result replaced the earlier one


def test_step_without_source_code_is_not_cached(cache_home):
    """Nothing would show that such a function changed."""
    assert source.code_of([len]) is None
    steps = {"own:STEP": HALVED}  # a module called own was not imported
    for number in (1, 2):
        train = TRAIN // np.uint8(number)
        dataset = preprocess.prepare(
            DATASET._replace(train_images=train), steps, zca_epsilon=0.1, cache_key="no source"
        ).dataset
        np.testing.assert_allclose(dataset.train_images.max(), 0.5)
    assert not cache_home.exists()
