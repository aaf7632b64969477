#!/bin/sh
# Makes the virtual environment DIR with the interpreter PYTHON and installs the project into it.
#   scripts/venv.sh PYTHON DIR
set -eu
python=$1
dir=$2
if ! "$python" -c '' 2>/dev/null; then
    # pyenv's shims refuse an interpreter that is installed but not selected.
    found=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/"$python" 2>/dev/null | tail -n 1)
    if [ -z "$found" ]; then
        echo "error: PYTHON=$python does not run; name an installed Python 3.11 or newer" >&2
        exit 2
    fi
    python=$found
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: PYTHON=$python is $("$python" --version); Python 3.11 or newer is needed" >&2
    exit 2
fi
echo "Setting up $dir with $("$python" --version) (once, about two minutes)"
"$python" -m venv "$dir"
"$dir/bin/pip" install --quiet --editable '.[experiments,dev]' --constraint constraints.txt
