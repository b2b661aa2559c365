#!/usr/bin/env bash
# Copyright (c) MotionMAE contributors. All rights reserved.
# Train on a Slurm cluster.
set -euo pipefail

if (($# < 3)); then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [arguments of train.py]" >&2
    echo "environment: GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS," \
        "MASTER_PORT" >&2
    exit 2
fi
tools=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="${tools%/*}${PYTHONPATH:+:$PYTHONPATH}"
# One port for all processes, unlikely to be that of another job.
export MASTER_PORT=${MASTER_PORT:-$((12000 + RANDOM % 20000))}

GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
read -ra SRUN_ARGS <<<"${SRUN_ARGS:-}"

exec srun \
    --partition="$1" \
    --job-name="$2" \
    --gres="gpu:$GPUS_PER_NODE" \
    --ntasks="$GPUS" \
    --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    "${SRUN_ARGS[@]}" \
    python -u "$tools/train.py" "$3" --launcher slurm "${@:4}"
