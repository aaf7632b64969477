#!/bin/sh
# Prints the path of the interpreter NAME, looking into pyenv's versions where its shim refuses.
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
