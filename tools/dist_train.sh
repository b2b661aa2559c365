#!/usr/bin/env bash
# Copyright (c) MotionMAE contributors. All rights reserved.
# Train with several processes on this machine, or on one of several machines.
set -euo pipefail

if (($# < 2)); then
    echo "usage: $0 CONFIG GPUS [arguments of train.py]" >&2
    echo "environment: NNODES, NODE_RANK, MASTER_ADDR, PORT" >&2
    exit 2
fi
tools=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="${tools%/*}${PYTHONPATH:+:$PYTHONPATH}"

if [[ ${NNODES:-1} == 1 && -z ${PORT:-} ]]; then
    meeting=(--standalone) # at a port that is free
else
    meeting=(
        --nnodes="${NNODES:-1}"
        --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}"
        --master_port="${PORT:-29500}"
    )
fi

exec torchrun "${meeting[@]}" \
    --nproc_per_node="$2" \
    "$tools/train.py" "$1" --launcher pytorch "${@:3}"
