#!/bin/sh
# Prints a path to the interpreter NAME. If it does not run, searches the versions of pyenv, whose
# shim refuses versions that are installed but not active.
#   scripts/python.sh NAME
set -eu
if "$1" -c '' 2>/dev/null; then
    echo "$1"
    exit
fi
found=$(find "${PYENV_ROOT:-$HOME/.pyenv}/versions" -path "*/bin/$1" 2>/dev/null | sort | tail -n 1)
if [ -z "$found" ]; then
    echo "error: PYTHON=$1 does not run; name an installed Python 3.11 or newer" >&2
    exit 2
fi
echo "$found"
