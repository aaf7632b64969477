#!/bin/sh
# Trains on a slice of Cloud TPUs; docs/tpu.md explains each command.
#   scripts/tpu.sh create                  requests a slice and waits until it is ready
#   scripts/tpu.sh setup                   copies the last commit to every host and installs it
#   scripts/tpu.sh train --config=... ...  starts the run on every host, with its workdir on the bucket
#   scripts/tpu.sh logs                    follows the log of the first host
#   scripts/tpu.sh keep --config=... ...   create, setup, and train, again after each preemption
#   scripts/tpu.sh stop                    makes the run save and exit
#   scripts/tpu.sh delete                  deletes the slice
# Environment variables: PROJECT, ZONE, TPU (a name of your choice), ACCELERATOR_TYPE (v5litepod-16),
# RUNTIME (v2-alpha-tpuv5-lite), WORKDIR (gs://BUCKET/NAME), DATA (gs://BUCKET/tfds, prepared).
set -eu
: "${PROJECT:?}" "${ZONE:?}" "${TPU:?}" "${ACCELERATOR_TYPE:?}" "${RUNTIME:?}" "${WORKDIR:?}" "${DATA:?}"
place="--project=$PROJECT --zone=$ZONE"

# $place is unquoted because it is two arguments.
# shellcheck disable=SC2086
tpu_vm() {
    verb=$1
    shift
    gcloud compute tpus tpu-vm "$verb" "$TPU" $place "$@"
}

on_every_host() {
    tpu_vm ssh --worker=all --command="$1"
}

create() {
    tpu_vm create --accelerator-type="$ACCELERATOR_TYPE" --version="$RUNTIME" --spot
}

setup() {
    git archive --format=tar.gz --output=/tmp/loganneal_jax.tar.gz HEAD
    # shellcheck disable=SC2086
    gcloud compute tpus tpu-vm scp /tmp/loganneal_jax.tar.gz "$TPU:" $place --worker=all
    on_every_host "
        set -e
        sudo apt-get update -q && sudo apt-get install -qy python3.11-venv
        mkdir -p loganneal_jax tfds && tar -xzf loganneal_jax.tar.gz -C loganneal_jax
        python3.11 -m venv loganneal_jax/.venv
        cd loganneal_jax
        .venv/bin/pip install --quiet '.[experiments,tensorflow,tpu]' --constraint constraints.txt
        gcloud storage rsync --recursive '$DATA' ../tfds"
}

train() {
    on_every_host "
        cd loganneal_jax
        TFDS_DATA_DIR=\$HOME/tfds nohup .venv/bin/python -m experiments.train $* \
            --workdir='$WORKDIR' >> train.log 2>&1 < /dev/null &"
}

logs() {
    tpu_vm ssh --worker=0 --command="tail -F loganneal_jax/train.log"
}

stop() {
    on_every_host "pkill -TERM -f experiments.train"
}

delete() {
    tpu_vm delete --quiet
}

state() {
    tpu_vm describe --format="value(state)" 2>/dev/null || echo MISSING
}

# A preempted slice must be deleted before a new one can have its name.
keep() {
    until gcloud storage ls "$WORKDIR/summary.json" >/dev/null 2>&1; do
        if [ "$(state)" != READY ]; then
            delete || true
            create && setup && train "$@" || true
        fi
        sleep 60
    done
    echo "finished: $WORKDIR/summary.json"
}

command=${1:-}
case $command in
    create | setup | train | logs | keep | stop | delete)
        shift
        "$command" "$@"
        ;;
    *)
        echo "error: unknown command '$command'; choose create, setup, train, logs, keep, stop, or" \
            "delete" >&2
        exit 2
        ;;
esac
