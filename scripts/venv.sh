#!/bin/sh
# Creates the virtual environment DIR and installs the project into it.
#   scripts/venv.sh DIR PYTHON [CONSTRAINTS]
# PYTHON is the name of an interpreter, or "" for the newest supported one. Without CONSTRAINTS, pip
# takes the newest version of every package.
set -eu
dir=$1
python=$(scripts/python.sh ${2:+"$2"})
echo "Setting up $dir with $("$python" --version) (once, a few minutes)"
# --clear: an environment of another Python cannot be reused.
"$python" -m venv --clear "$dir"
scripts/install.sh "$dir" --editable '.[experiments,tensorflow,dev,docs]' ${3:+--constraint "$3"}
touch "$dir/.installed"
