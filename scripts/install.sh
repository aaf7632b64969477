#!/bin/sh
# Installs packages into an environment: with uv, in seconds, if it is installed, else with pip.
#   scripts/install.sh DIR PACKAGE...
# Options of `pip install`, such as --editable and --constraint, may stand among the packages.
set -eu
dir=$1
shift
if command -v uv >/dev/null; then
    uv pip install --quiet --python "$dir/bin/python" "$@"
else
    "$dir/bin/pip" install --quiet "$@"
fi
