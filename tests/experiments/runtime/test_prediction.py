"""Files are predicted as the test images of the run were, or refused with what is expected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from PIL import Image

from experiments.data import pictures
from experiments.errors import UserError
from experiments.runtime import prediction, trained
from experiments.runtime.trained import Trained

GRAY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def logits_of(variables, images):
    """Two logits whose difference tells the mean pixel of an image."""
    means = images.astype(jnp.float32).mean((1, 2, 3))
    return jnp.stack([jnp.zeros_like(means), means / 100.0], axis=1)


@pytest.fixture
def classes(tmp_path, monkeypatch):
    """Returns a function from files, and how the network differs, to its predictions."""

    def predict(*files, **changes):
        network = Trained(
            variables={},
            image_shape=(8, 8, 1),
            dtype="uint8",
            class_names=("dark", "bright"),
            step=1,
            stored_shape=(8, 8, 1),
            _logits=logits_of,
            _probabilities=jax.nn.softmax,
        ).replace(**changes)
        monkeypatch.setattr(trained, "load", lambda directory, which: network)
        return prediction.of_files(epath.Path(tmp_path), [str(file) for file in files])

    return predict


def saved(file, image):
    if file.suffix == ".npy":
        np.save(file, image)
    else:
        Image.fromarray(image).save(file)
    return file


def probability(image):
    return 1 / (1 + np.exp(-image.astype(np.float64).mean() / 100))


def test_image_and_array_files_have_a_class_and_its_probability(classes, tmp_path):
    files = [
        saved(tmp_path / "one.png", GRAY),
        saved(tmp_path / "two.npy", 3 * GRAY),
        saved(tmp_path / "three.npy", np.stack([GRAY, 2 * GRAY])[..., np.newaxis]),
    ]
    names = [str(files[0]), str(files[1]), f"{files[2]}[0]", f"{files[2]}[1]"]
    found = classes(*files)
    assert [each.name for each in found] == names
    assert {each.class_name for each in found} == {"bright"}
    expected = [probability(image) for image in (GRAY, 3 * GRAY, GRAY, 2 * GRAY)]
    np.testing.assert_allclose([each.probability for each in found], expected, rtol=1e-5)
    jpeg = saved(tmp_path / "one.jpeg", GRAY)
    decoded = np.asarray(Image.open(jpeg))
    assert classes(jpeg)[0].probability == pytest.approx(probability(decoded), rel=1e-5)


def test_files_are_resized_only_as_training_resized_its_images(classes, tmp_path):
    rng = np.random.default_rng(0)
    small = saved(tmp_path / "small.png", rng.integers(0, 256, (4, 4), np.uint8))
    with pytest.raises(UserError, match=r"small.png is 4x4x1, but the network takes .* of 8x8x1 "):
        classes(small)
    (found,) = classes(small, stored_shape=(4, 4, 1))
    resized = pictures.resized(np.asarray(Image.open(small))[None, ..., None], (8, 8, 1))
    assert found.probability == pytest.approx(probability(resized), rel=1e-5)
    array = saved(tmp_path / "small.npy", np.asarray(Image.open(small)))
    assert classes(array, stored_shape=(4, 4, 1))[0].probability == found.probability
    # A file that has the size of the network's images is taken as it is.
    (exact,) = classes(saved(tmp_path / "exact.png", GRAY), stored_shape=(4, 4, 1))
    assert exact.probability == pytest.approx(probability(GRAY), rel=1e-5)
    # The center is cropped where the images of the data set had many sizes.
    wide = saved(tmp_path / "wide.png", rng.integers(0, 256, (9, 30, 3), np.uint8))
    (found,) = classes(wide, stored_shape=None)
    cropped = pictures.cropped(wide.read_bytes(), None, side=8, channels=1, random_parts=False)
    assert found.probability == pytest.approx(probability(cropped), rel=1e-5)


def test_unusable_file_is_one_sentence(classes, tmp_path):
    def refusal(file, **changes):
        with pytest.raises(UserError) as error:
            classes(file, **changes)
        assert "\n" not in str(error.value)
        return str(error.value)

    color = saved(tmp_path / "color.png", np.zeros((8, 8, 3), np.uint8))
    message = "color.png is 8x8x3, but the network takes images of 8x8x1 (height, width, channels)"
    assert message in refusal(color)
    floats = saved(tmp_path / "floats.npy", GRAY / 255)
    message = "floats.npy has float64 values, but the network takes uint8 images with values from"
    assert message in refusal(floats)
    png = saved(tmp_path / "gray.png", GRAY)
    assert "but the network takes float32 images; pass a .npy" in refusal(png, dtype="float32")
    flat = saved(tmp_path / "flat.npy", GRAY.ravel())
    assert "flat.npy is 64, but the network takes images of 8x8x1" in refusal(flat)
    assert "missing.png cannot be read (No such file" in refusal(tmp_path / "missing.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(png.read_bytes()[:40])
    assert "broken.png cannot be read (" in refusal(broken)
    pickled = saved(tmp_path / "pickled.npy", np.array([{}], object))
    assert "pickled.npy cannot be read (" in refusal(pickled)
