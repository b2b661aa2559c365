#!/usr/bin/env bash
# Copyright (c) MotionMAE contributors. All rights reserved.
# Train with several processes on this machine, or on one of several machines.
#
# SIGTERM and SIGUSR1 let the run save itself and end with exit code 85.
# --max-restarts N starts torchrun anew, up to N times, if a process has died;
# to be used with --resume.
set -euo pipefail

if (($# < 2)); then
    echo "usage: $0 CONFIG GPUS [arguments of torchrun and train.py]" >&2
    echo "environment: NNODES, NODE_RANK, MASTER_ADDR, PORT" >&2
    exit 2
fi
tools=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="${tools%/*}${PYTHONPATH:+:$PYTHONPATH}"
source "$tools/launching.sh"

config=$1 gpus=$2 restarts=0 launch=() rest=()
shift 2
while (($#)); do
    case ${1%%=*} in
    --max[-_]restarts)
        if [[ $1 != *=* ]]; then set -- "$1=${2-}" "${@:3}"; fi
        restarts=${1#*=}
        if [[ ! $restarts =~ ^[0-9]+$ ]]; then
            echo "error: --max-restarts needs a number" >&2
            exit 2
        fi
        ;;
    --standalone | --virtual[-_]local[-_]rank) launch+=("$1") ;;
    --rdzv[-_]* | --nnodes | --node[-_]rank | --master[-_]* | --local[-_]addr | \
        --monitor[-_]interval | --start[-_]method | --role | --log[-_]dir | \
        --logs[-_]specs | --redirects | --tee | --local[-_]ranks[-_]filter | \
        --duplicate[-_]* | --event[-_]log[-_]handler | --numa[-_]binding | \
        --signals[-_]to[-_]handle | --shutdown[-_]timeout)
        launch+=("$1")
        if [[ $1 != *=* ]]; then
            launch+=("${2-}")
            shift $(($# > 1))
        fi
        ;;
    *) rest+=("$1") ;;
    esac
    shift
done

# To the processes themselves: torchrun would give them 30 seconds.
ask_to_end() {
    local workers=()
    read -ra workers <"/proc/$1/task/$1/children" 2>/dev/null || true
    if ((${#workers[@]})); then
        kill -USR1 "${workers[@]}"
    else
        kill -TERM "$1"
    fi
}

meeting=(
    --nnodes="${NNODES:-1}"
    --node_rank="${NODE_RANK:-0}"
    --master_addr="${MASTER_ADDR:-127.0.0.1}"
    --master_port="${PORT:-29500}"
)
if [[ ${NNODES:-1} == 1 && -z ${PORT:-} ]] && ((${#launch[@]} == 0)); then
    meeting=(--standalone) # at a port that is free
fi

make_note "${TMPDIR:-/tmp}/motionmae.XXXXXX"
for ((run = 0; ; run++)); do
    run_watched torchrun \
        "${meeting[@]}" \
        --nproc_per_node="$gpus" \
        ${launch[@]+"${launch[@]}"} \
        "$tools/train.py" "$config" --launcher pytorch ${rest[@]+"${rest[@]}"}
    if was_preempted; then exit 85; fi
    if ((code == 0 || asked || run == restarts)); then exit "$code"; fi
    echo "A process has died: start $((run + 1)) of at most $restarts" >&2
done
