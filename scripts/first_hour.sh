#!/usr/bin/env bash
# Does what a new user does in the first hour, with the wheel in a new environment outside the clone.
#   scripts/first_hour.sh DIR
# DIR is the environment of `make test`, which has the tools that build the wheel. Takes less than
# four minutes on 2 cores where pip has cached the packages.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/$1/bin/python
constraints=$PWD/constraints.txt
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

step() {
    echo "== after $SECONDS s: $*"
}

step "build the wheel and the source distribution"
"$python" -m build --no-isolation --outdir "$place/dist" . >"$place/build.log" || {
    tail -n 20 "$place/build.log" >&2
    exit 1
}
"$python" -m twine check --strict "$place"/dist/*

step "install the wheel with the extra experiments"
"$python" -m venv "$place/env"
wheels=("$place"/dist/*.whl)
"$place/env/bin/pip" install --quiet "${wheels[0]}[experiments]" --constraint "$constraints"
mkdir "$place/work"
cd "$place/work"
# Nothing of the clone may be found.
unset PYTHONPATH
export PATH="$place/env/bin:$PATH"

step "read the help"
loganneal-train --help >help.txt
grep -q -- --workdir help.txt

step "train twice"
loganneal-train --config=quickstart --config.epochs=5 --workdir=runs/log
loganneal-train --config=quickstart --config.epochs=5 --config.schedule.name=cosine \
    --workdir=runs/cosine

step "compare the runs"
loganneal-report runs/log runs/cosine --out=report
grep -q cosine report/report.md

step "read what is missing without TensorFlow"
if TFDS_DATA_DIR=$PWD/empty loganneal-train --config=cifar10_cpu 2>error.txt; then
    echo "cifar10_cpu trained without data" >&2
    exit 1
fi
grep "TensorFlow is not installed; run pip install 'loganneal-jax\[tensorflow\]'" error.txt

step "done"
