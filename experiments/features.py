"""Trains the classifier whose features measure GANs, and writes its weights.

    python -m experiments.features --data=mnist --out=features_mnist.npz

Prints the accuracy on the test images, and the SHA-256 of the file. A run trains the classifier of
its data set itself, unless `experiments/build/features.py` lists stored weights.
"""

import hashlib
import os

from absl import flags
from etils import epath

from experiments import cli


def main() -> None:
    """Trains as the flags specify."""
    # These import jax and other libraries that take seconds.
    from experiments.build import features
    from experiments.data import datasets
    from experiments.program import switches
    from experiments.runtime.workdir import write_atomically

    switches.pin()
    name, data_dir = flags.FLAGS.data, flags.FLAGS.data_dir
    info = datasets.describe(
        name, data_dir=data_dir and os.path.expanduser(data_dir), image_size=flags.FLAGS.image_size
    )
    weights, accuracy = features.train(info, datasets.load(info))
    out = epath.Path(os.path.expanduser(flags.FLAGS.out or f"features_{name}.npz"))
    content = features.encode(weights)
    write_atomically(out, content)
    print(
        f"test accuracy {accuracy:.2%}; wrote {out}, {len(content)} bytes, SHA-256 "
        f"{hashlib.sha256(content).hexdigest()}"
    )


def define_flags() -> None:
    """Defines the flags of the command; importing it must not, because other commands do too."""
    flags.DEFINE_string("data", "mnist", "Data set: digits, or image classification of tfds.")
    flags.DEFINE_string("data_dir", None, "Directory of tfds. Defaults to TFDS_DATA_DIR.")
    flags.DEFINE_integer("image_size", None, "Side of an image in pixels. Defaults to its own.")
    flags.DEFINE_string("out", None, "File to write. Defaults to features_DATA.npz.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
