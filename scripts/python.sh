#!/bin/sh
# Prints the path of a Python interpreter.
#   scripts/python.sh         the newest supported one, or a newer one with a warning
#   scripts/python.sh NAME    the one called NAME, such as python3.12
# Also looks into the versions of pyenv, whose shims run only where a version is selected.
set -eu
SUPPORTED="3.13 3.12 3.11"

# Prints the path of the interpreter $1, or fails.
find_python() {
    if "$1" -c '' 2>/dev/null; then
        command -v "$1"
        return
    fi
    found=$(find "${PYENV_ROOT:-$HOME/.pyenv}/versions" -path "*/bin/$1" 2>/dev/null | sort | tail -n 1)
    [ -n "$found" ] && echo "$found"
}

# Prints MAJOR.MINOR of the interpreter $1.
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

if [ $# -eq 0 ]; then
    for version in $SUPPORTED; do
        if find_python "python$version"; then
            exit
        fi
    done
    set -- python3
fi
if ! python=$(find_python "$1"); then
    echo "error: $1 is not installed; install Python 3.11, 3.12, or 3.13, or set PYTHON to one of them" >&2
    exit 2
fi
version=$(version_of "$python")
case " $SUPPORTED " in
    *" $version "*) ;;
    *)
        if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "error: $1 is Python $version; install Python 3.11, 3.12, or 3.13" >&2
            exit 2
        fi
        echo "warning: Python $version is newer than the supported versions ($SUPPORTED) and may fail" >&2
        ;;
esac
echo "$python"
