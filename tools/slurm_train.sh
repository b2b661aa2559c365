#!/usr/bin/env bash
# Copyright (c) MotionMAE contributors. All rights reserved.
# Train on a Slurm cluster.
#
# Slurm sends SIGUSR1 some time before the job has to end; the run saves itself
# and is started again, with --resume. In a batch script that does
# `#SBATCH --signal=USR1@120` and `#SBATCH --requeue`: the job is requeued.
set -euo pipefail

if (($# < 3)); then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [arguments of train.py]" >&2
    echo "environment: GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS," \
        "MASTER_PORT, WARNING (seconds, 120)" >&2
    exit 2
fi
tools=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="${tools%/*}${PYTHONPATH:+:$PYTHONPATH}"
source "$tools/launching.sh"
# One port for all processes, unlikely to be that of another job.
export MASTER_PORT=${MASTER_PORT:-$((12000 + RANDOM % 20000))}

GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
read -ra SRUN_ARGS <<<"${SRUN_ARGS:-}"
partition=$1 name=$2
shift 2

ask_to_end() { kill -USR1 "$1"; } # srun passes it on

resume() {
    [[ " $* " == *' --resume'[\ =]* ]] || set -- "$1" --resume "${@:2}"
    arguments=("$@")
}

arguments=("$@")
if ((${SLURM_RESTART_COUNT:-0})); then resume "$@"; fi
make_note "$PWD/.motionmae.XXXXXX" # all nodes see this folder
while :; do
    run_watched srun \
        --partition="$partition" \
        --job-name="$name" \
        --gres="gpu:$GPUS_PER_NODE" \
        --ntasks="$GPUS" \
        --ntasks-per-node="$GPUS_PER_NODE" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        --signal="USR1@${WARNING:-120}" \
        ${SRUN_ARGS[@]+"${SRUN_ARGS[@]}"} \
        python -u "$tools/train.py" "${arguments[0]}" --launcher slurm \
        "${arguments[@]:1}"
    if ! was_preempted; then exit "$code"; fi
    if [[ -n ${SLURM_JOB_ID:-} ]]; then
        scontrol requeue "$SLURM_JOB_ID"
        exit 85
    fi
    if ((asked)); then exit 85; fi # by who started this
    : >"$MOTIONMAE_PREEMPTION_NOTE"
    resume "${arguments[@]}"
done
