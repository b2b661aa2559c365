# Copyright (c) MotionMAE contributors. All rights reserved.
"""Runs that are killed, or asked to end, at random, and resumed.

Each must end with the weights of the run that was not interrupted, leave no
file that is half written, and lose no checkpoint. More of them than as a test:

    PYTHONPATH=. python tests/engine/test_random_kills.py \\
        --kills 100 --terms 40 --seed 0
"""

import argparse
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.utils.dl_utils import collect_env

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tests'))
from helpers.resumed_runs import FINETUNE, PRETRAIN, TRAIN  # noqa: E402

from mmmotionmae.compat import end_process  # noqa: E402
from mmmotionmae.datasets import moving_shapes  # noqa: E402

OPTIONS = [
    'train_cfg.max_epochs=3',
    'default_hooks.export_backbone.interval=4',
    'train_dataloader.batch_size=4',
    'default_hooks.checkpoint.interval=1',
    'default_hooks.checkpoint.max_keep_ckpts=3',
    'default_hooks.checkpoint.save_optimizer=True',
    # A checkpoint every third batch, too.
    'default_hooks.timed_checkpoint.minutes=0',
    'default_hooks.timed_checkpoint.interval=3',
]
WORKERS = [
    'train_dataloader.num_workers=2',
    'train_dataloader.persistent_workers=True',
]
KINDS = dict(
    pretraining=(PRETRAIN, 1, WORKERS),
    accumulating=(PRETRAIN, 1, ['optim_wrapper.accumulative_counts=3']),
    finetuning=(FINETUNE, 1, ['train_cfg.val_interval=1']),
    two_processes=(PRETRAIN, 2, ['train_dataloader.batch_size=2']),
)


def start(kind, work_dir):
    """Start a run in processes that are copies of this one.

    Returns:
        Their ids.
    """
    config, size, options = KINDS[kind]
    argv = [str(config), '--work-dir', str(work_dir), '--resume']
    if size > 1:
        argv += ['--launcher', 'pytorch']
    argv += ['--cfg-options', *OPTIONS, *options]
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    pids = []
    log = os.open(f'{work_dir}.log', os.O_CREAT | os.O_APPEND | os.O_RDWR)
    for rank in range(size):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        os.setpgid(0, 0)
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(size),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port),
        )
        os.dup2(log, 1)
        os.dup2(log, 2)
        # Not what pytest has put in their place.
        sys.stdout = sys.stderr = os.fdopen(1, 'w', buffering=1)
        sys.argv = ['train.py', *argv]
        code = 1
        try:
            code = TRAIN.main()
        finally:
            end_process(code)
    os.close(log)
    return pids


def wait(pids):
    """Exit codes; negative ones are signals.

    As a launcher does, ends all once one has failed.
    """
    codes = {}
    while len(codes) < len(pids):
        for pid in {*pids} - codes.keys():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if any(code not in (0, 85) for code in codes.values()):
            for pid in {*pids} - codes.keys():
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return [codes[pid] for pid in pids]


_PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT


def has_begun(log, start):
    """Whether a training has begun, as its log says from there on."""
    with open(log, 'rb') as file:
        file.seek(start)
        return b'Checkpoints will be saved' in file.read()


def has_ended(pid):
    return os.waitid(os.P_PID, pid, _PEEK) is not None


def interrupt(kind, work_dir, number, seconds, rng):
    """Start a run and send it a signal, unless it has ended by then.

    In one of six cases at any time, else from the start of training on.
    """
    log = Path(f'{work_dir}.log')
    read = log.stat().st_size if log.exists() else 0
    pids = start(kind, work_dir)
    early = rng.random() < 1 / 6
    while not early and not has_begun(log, read):
        if has_ended(pids[0]):
            break
        time.sleep(0.01)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.005)
    # To one process, to its group with all loaders, or to all.
    choice = rng.choice(['one', 'group', 'all'])
    for pid in [rng.choice(pids)] if choice == 'one' else pids:
        send = os.killpg if choice == 'group' else os.kill
        try:
            send(pid, number)
        except ProcessLookupError:
            pass
    return wait(pids)


def check(work_dir, whole):
    """What is wrong with a run that has ended."""
    wrong = [f'{path} is left' for path in work_dir.rglob('*.tmp')]
    wrong += [f'{path} is left' for path in work_dir.glob('interim_*')]
    for path in work_dir.glob('epoch_*.pth'):
        content = torch.load(path, weights_only=True)
        state = content['state_dict']
        expected = whole.get(path.name)
        if expected is None or any(
            not torch.equal(state[name], expected[name]) for name in expected
        ):
            wrong.append(f'{path} differs')
    wrong += [
        f'{work_dir} has no {name}'
        for name in whole
        if not (work_dir / name).exists()
    ]
    return wrong


def run_trials(folder, kinds, kills, terms, rng, limit=None):
    """Interrupt so many runs, by turns of each kind.

    Args:
        folder: Where they are.
        kinds: Of ``KINDS``.
        kills: How many by SIGKILL.
        terms: How many by SIGTERM.
        rng: Source of all choices.
        limit: Seconds after which no further one is begun.

    Returns:
        Number of runs, of interruptions by exit code, and what is wrong.
    """
    begin, whole, seconds = time.monotonic(), {}, {}
    for kind in kinds:
        run = folder / f'whole_{kind}'
        pids, log = start(kind, run), Path(f'{run}.log')
        while not has_begun(log, 0) and not has_ended(pids[0]):
            time.sleep(0.01)
        since = time.monotonic()
        assert wait(pids) == [0] * KINDS[kind][1]
        seconds[kind] = time.monotonic() - since
        whole[kind] = {
            path.name: torch.load(path, weights_only=True)['state_dict']
            for path in run.glob('epoch_*.pth')
        }
        print(f'{kind}: {seconds[kind]:.1f} s of training', flush=True)
    numbers = [signal.SIGKILL] * kills + [signal.SIGTERM] * terms
    rng.shuffle(numbers)
    done, codes, wrong = dict.fromkeys(numbers, 0), {}, []
    for i, number in enumerate(numbers):
        if limit is not None and time.monotonic() - begin > limit:
            break
        kind = kinds[i % len(kinds)]
        run = folder / f'{i}_{kind}'
        for _ in range(rng.choice([1, 1, 2])):
            found = interrupt(
                kind, run, number, rng.uniform(0, seconds[kind]), rng
            )
            for code in found:
                codes[code] = codes.get(code, 0) + 1
        last = wait(start(kind, run))
        problems = check(run, whole[kind])
        if last != [0] * len(last):
            problems.append(f'{run} ended with {last}')
        wrong += problems
        done[number] += 1
        print(i, kind, number.name, found, problems, flush=True)
        if not problems:
            shutil.rmtree(run)
    return done, codes, wrong


@pytest.mark.slow
def test_interrupted_runs_end_like_the_others(tmp_path, shapes_dir, run_env):
    os.environ.update(run_env)
    done, codes, wrong = run_trials(
        tmp_path, [*KINDS], kills=4, terms=4, rng=random.Random(0)
    )
    assert sum(done.values()) == 8 and not wrong, (codes, wrong)


def main():
    """Interrupt as many runs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument('--terms', type=int, default=40)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--limit', type=float, help='seconds')
    parser.add_argument('--kinds', nargs='+', default=[*KINDS], choices=KINDS)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix='random_kills.'))
    moving_shapes.write_dataset(
        folder / 'data',
        num_pretrain=32,
        num_train=16,
        num_val=8,
        num_davis=0,
        disable=True,
    )
    os.environ.update(DEMO_DATA=str(folder / 'data'), OMP_NUM_THREADS='1')
    torch.set_num_threads(1)
    # What takes longer than these trainings, once for all processes.
    environment = collect_env()
    mmengine.runner.runner.collect_env = lambda: environment
    mmengine.config.config.FormatCode = lambda text, **style: (text, True)
    done, codes, wrong = run_trials(
        folder,
        args.kinds,
        args.kills,
        args.terms,
        random.Random(args.seed),
        args.limit,
    )
    for number, count in done.items():
        print(f'{signal.Signals(number).name}: {count} runs')
    print(f'exit codes of interrupted processes: {codes}')
    print('\n'.join(wrong) or 'all as if they had not been interrupted')
    if not wrong:
        shutil.rmtree(folder)
    return bool(wrong)


if __name__ == '__main__':
    sys.exit(main())
