#!/usr/bin/env bash
# Does what a new user does in the first hour, with the wheel in a new environment outside the clone.
#   scripts/first_hour.sh DIR
# DIR is the environment of `make test`, which has the tools that build the wheel. Takes less than
# four minutes on 2 cores where the packages are cached.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath "$1")/bin/python
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

step() {
    echo "== after $SECONDS s: $*"
}

step "build the wheel and the source distribution"
"$python" -m build --no-isolation --outdir "$place/dist" . >"$place/build.log" 2>&1 || {
    tail -n 20 "$place/build.log" >&2
    exit 1
}
"$python" -m twine check --strict "$place"/dist/*

step "install the wheel with the extra experiments"
"$python" -m venv "$place/env"
wheels=("$place"/dist/*.whl)
scripts/install.sh "$place/env" "${wheels[0]}[experiments]" --constraint constraints.txt
mkdir "$place/work"
cd "$place/work"
# Nothing of the clone may be found.
unset PYTHONPATH
export PATH="$place/env/bin:$PATH"

step "read the help"
loganneal-train --help >help.txt
grep -q -- --workdir help.txt

step "train"
loganneal-train --config=quickstart --config.epochs=5 --workdir=runs/log

step "predict the classes of ten PNG files, one of each digit"
python - <<'PYTHON'
from PIL import Image
from sklearn.datasets import load_digits

images, labels = load_digits(return_X_y=True)
for digit in range(10):
    image = images[labels == digit][0].reshape(8, 8) * 255 / 16
    Image.fromarray(image.astype("uint8")).save(f"{digit}.png")
PYTHON
loganneal-predict runs/log [0-9].png | tee predicted.txt
python - <<'PYTHON'
from pathlib import Path

lines = [line.split("\t") for line in Path("predicted.txt").read_text().splitlines()]
right = sum(Path(file).stem == name for file, name, _ in lines)
assert len(lines) == 10 and right >= 6, f"{right} of {len(lines)} are right"
PYTHON

step "train five more epochs"
loganneal-train --workdir=runs/log --extend_to_epochs=10
test "$(wc -l <runs/log/metrics.jsonl)" -eq 10

step "train a second run, and compare the two"
loganneal-train --config=quickstart --config.epochs=10 --config.schedule.name=cosine \
    --workdir=runs/cosine
loganneal-report runs/log runs/cosine --labels=log,cosine --out=report
grep '^| schedule.name .*| cyclical_log_annealing .*| cosine ' report/report.md

step "export the weights, and load them and the network again"
loganneal-export runs/log log.safetensors
python - <<'PYTHON'
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

import experiments

network = experiments.load("runs/log")
variables = flatten_dict(network.variables, sep="/")
arrays = load_file("log.safetensors")
for name, values in variables.items():
    np.testing.assert_array_equal(arrays[name], values)
images = np.zeros((2, *network.image_shape), network.dtype)
np.testing.assert_allclose(network(images).sum(axis=1), 1, rtol=1e-5)
print(f"{len(variables)} arrays of step {network.step} are equal")
PYTHON

step "read what is missing without TensorFlow"
if TFDS_DATA_DIR=$PWD/empty loganneal-train --config=cifar10_cpu 2>error.txt; then
    echo "cifar10_cpu trained without data" >&2
    exit 1
fi
grep "TensorFlow is not installed; run pip install 'loganneal-jax\[tensorflow\]'" error.txt

step "done"
