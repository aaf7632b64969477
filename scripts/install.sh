#!/bin/sh
# Installs packages into an environment: with uv if it is installed, which is faster, or with pip.
#   scripts/install.sh DIR PACKAGE...
# Options of `pip install`, such as --editable and --constraint, may stand among the packages.
set -eu
dir=$1
shift
if command -v uv >/dev/null; then
    uv pip install --quiet --compile-bytecode --python "$dir/bin/python" "$@"
else
    "$dir/bin/pip" install --quiet "$@"
fi
