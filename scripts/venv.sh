#!/bin/sh
# Creates the virtual environment DIR with the interpreter PYTHON and installs the project in it.
#   scripts/venv.sh PYTHON DIR
set -eu
python=$(scripts/python.sh "$1")
dir=$2
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: PYTHON=$1 is $("$python" --version); Python 3.11 or newer is needed" >&2
    exit 2
fi
echo "Setting up $dir with $("$python" --version) (once, a few minutes)"
"$python" -m venv "$dir"
"$dir/bin/pip" install --quiet --editable '.[experiments,dev]' --constraint constraints.txt
touch "$dir/.installed"
