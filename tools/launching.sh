# Copyright (c) MotionMAE contributors. All rights reserved.
# For the scripts beside it: starts a launcher, and tells it to save the run.

# Name of a file that a run writes into when it has saved itself because it was
# asked to end. The argument is its template, for `mktemp`.
make_note() {
    MOTIONMAE_PREEMPTION_NOTE=$(mktemp "$1")
    export MOTIONMAE_PREEMPTION_NOTE
    trap 'rm -f -- "$MOTIONMAE_PREEMPTION_NOTE"' EXIT
}

was_preempted() { [[ -s $MOTIONMAE_PREEMPTION_NOTE ]]; }

# Run a command until it ends, and set `code`. SIGTERM and SIGUSR1 call the
# function `ask_to_end` with its process, Ctrl-C is passed on; `asked` is 1
# from then on.
asked=0
run_watched() {
    local child=
    trap 'asked=1; if [[ $child ]]; then ask_to_end "$child"; fi' TERM USR1
    trap 'asked=1; if [[ $child ]]; then kill -INT "$child"; fi' INT
    set -m # so that the command does not ignore Ctrl-C
    "$@" &
    child=$!
    set +m
    if ((asked)); then ask_to_end "$child"; fi # it came before
    while :; do                                # a signal ends `wait` early
        code=0
        wait "$child" || code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    trap - TERM USR1 INT
}
