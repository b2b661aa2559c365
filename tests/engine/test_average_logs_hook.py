# Copyright (c) MotionMAE contributors. All rights reserved.
"""The log of several processes has the means over them."""

import json
import subprocess
import sys
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.processes import HUNG
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import MessageHub

from mmmotionmae.engine import AverageLogsHook, DeferredRuntimeInfoHook
from mmmotionmae.engine.hooks import average_logs_hook

# Two processes, each with its own losses; process 1 has 'rare' more often.
ROWS = [
    [dict(loss=10.0 * rank + i, r2=0.5 - rank, count=rank) for i in range(7)]
    for rank in range(2)
]
for rank, iterations in enumerate([(1,), (0, 2, 3)]):
    for i in iterations:
        ROWS[rank][i]['rare'] = 4.0 * rank + i


class Exchange:
    """``all_gather_object`` of threads, each of which is a process."""

    def __init__(self, size):
        self.barrier = threading.Barrier(size, timeout=HUNG)
        self.parts = size * [None]
        self.local = threading.local()
        self.calls = Counter()

    def gather(self, part):
        self.calls[self.local.rank] += 1
        self.parts[self.local.rank] = part
        self.barrier.wait()
        parts = list(self.parts)
        self.barrier.wait()
        return parts


@pytest.mark.parametrize('info', [RuntimeInfoHook, DeferredRuntimeInfoHook])
def test_what_is_logged_is_the_mean(monkeypatch, info):
    exchange = Exchange(2)
    monkeypatch.setattr(average_logs_hook, 'get_world_size', lambda: 2)
    monkeypatch.setattr(
        average_logs_hook, 'all_gather_object', exchange.gather
    )
    hubs = [MessageHub.get_instance(uuid.uuid4().hex) for _ in ROWS]

    def run(rank):
        exchange.local.rank = rank
        hooks = info(), AverageLogsHook()
        runner = SimpleNamespace(
            message_hub=hubs[rank],
            hooks=[LoggerHook(interval=4)],
            train_dataloader=range(7),
        )
        hooks[1].before_train(runner)
        seen = []
        try:
            for i, row in enumerate(ROWS[rank]):
                outputs = {k: torch.tensor(v) for k, v in row.items()}
                for hook in hooks:
                    hook.after_train_iter(runner, i, None, outputs)
                history = hubs[rank].get_scalar('train/loss')
                seen.append(history.data[0].tolist())
        except BaseException:
            exchange.barrier.abort()  # the other would wait for ever
            raise
        return seen

    with ThreadPoolExecutor(2) as pool:
        seen = list(pool.map(run, range(2)))
    for rank in range(2):
        own, mean = (
            [10 * rank + i for i in range(7)],
            [i + 5 for i in range(7)],
        )
        # Exchanged where there is a line of the log, and at the end.
        assert seen[rank][:3] == [own[:1], own[:2], own[:3]]
        assert seen[rank][3] == mean[:4]
        assert seen[rank][4] == mean[:4] + own[4:5]
        assert seen[rank][6] == mean
    assert exchange.calls == {0: 2, 1: 2}
    for hub in hubs:
        assert hub.get_scalar('train/r2').data[0].tolist() == 7 * [0.0]
        # Not the mean of integers, which would be cut off.
        assert hub.get_scalar('train/count').data[0].tolist() == 7 * [0.5]
    # 1 in one process; 4, 6, 7 in the other
    rare = [hub.get_scalar('train/rare').data[0].tolist() for hub in hubs]
    assert rare == [[4.5], [4.5] * 3]


def test_one_process_exchanges_nothing(monkeypatch):
    monkeypatch.delattr(average_logs_hook, 'all_gather_object')
    hook = AverageLogsHook()
    hook.before_train(SimpleNamespace(hooks=[]))
    hook.after_train_iter(SimpleNamespace(), 0, None, dict(loss=1.0))


def test_mean_of_values_that_are_not_equally_many():
    mean = average_logs_hook.mean_over_processes
    two = [np.array([1.0, 2.0]), np.array([3.0, 5.0])]
    assert mean(two).tolist() == [2.0, 3.5]
    assert mean([*two, np.array([4.0])]) == 3.0
    assert np.isnan(mean([np.array([1.0]), np.array([np.nan])])).all()


WORKER = """
import json, math, sys, uuid
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmmotionmae.cli.running import run_tool
sys.path.insert(0, sys.argv[1])
import importlib.util
spec = importlib.util.spec_from_file_location('t', sys.argv[1] + '/train.py')
TRAIN = importlib.util.module_from_spec(spec)
spec.loader.exec_module(TRAIN)
poison = int(sys.argv[2])

class Record(Hook):
    priority = 'VERY_HIGH'
    own = []
    videos = []
    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.own.append({k: v.item() for k, v in outputs.items()})
        self.videos.append(
            [s.filename for s in data_batch['data_samples']])
        self.write()
    def before_train_iter(self, runner, batch_idx, data_batch):
        if runner.iter + 1 == poison and get_rank() == 1:
            runner.model.module.backbone.register_forward_hook(
                lambda module, args, tokens: tokens * math.nan)
    def write(self):
        with open(f'rank{get_rank()}.json', 'w') as file:
            json.dump(dict(own=self.own, videos=self.videos), file)

sys.argv = ['train.py', *sys.argv[3:]]
sys.exit(run_tool(lambda: TRAIN.train(TRAIN.parse_args(), [Record()])))
"""


@pytest.fixture
def run(tmp_path, run_env):
    root = Path(__file__).parents[2]
    config = 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py'

    def start(poison=0):
        (tmp_path / 'worker.py').write_text(WORKER)
        done = subprocess.run(
            [
                *[sys.executable, '-m', 'torch.distributed.run'],
                *['--standalone', '--nproc_per_node=2', 'worker.py'],
                *[root / 'tools', str(poison), root / 'configs/demo' / config],
                *['--work-dir', 'run', '--launcher', 'pytorch'],
                *['--cfg-options', 'train_cfg.max_epochs=2'],
                'train_dataloader.batch_size=4',
                'train_dataloader.num_workers=0',
                'train_dataloader.persistent_workers=False',
                'default_hooks.logger.interval=3',
                'default_hooks.checkpoint.interval=1',
            ],
            cwd=tmp_path,
            env=run_env,
            capture_output=True,
            text=True,
            timeout=HUNG,
        )
        ranks = [
            json.loads((tmp_path / f'rank{rank}.json').read_text())
            for rank in range(2)
        ]
        return done, ranks

    return start


@pytest.mark.slow
def test_log_of_two_processes(run, tmp_path):
    done, ranks = run()
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob('run/*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [line for line in lines if 'loss' in line]
    assert [line['step'] for line in lines] == [3, 4, 7, 8]
    differences = []
    for line in lines:
        for name in ranks[0]['own'][0]:
            both = [
                [row[name] for row in rank['own'][: line['step']]]
                for rank in ranks
            ]
            if 'loss' not in name:  # MMEngine smoothes losses alone
                both = [rank[-1:] for rank in both]
            # The window of the demo's log is longer than this run.
            assert line[name] == pytest.approx(np.mean(both), rel=1e-5)
            differences.append(abs(np.mean(both[0]) - np.mean(both)))
    assert max(differences) > 1e-3  # so it is not that of process 0


@pytest.mark.slow
def test_nan_in_one_of_two_processes_ends_both(run, tmp_path):
    done, ranks = run(poison=7)
    assert done.returncode != 0
    errors = [
        line for line in done.stderr.splitlines() if line.startswith('error: ')
    ]
    assert len(errors) == 1 and 'is nan in iteration 7 (epoch 2)' in errors[0]
    assert 'run/epoch_1.pth' in errors[0]
    (path,) = tmp_path.glob('run/not_finite_iter_*.json')
    report = json.loads(path.read_text())
    assert report['iteration'] == 7
    (process,) = report['processes']  # not that whose loss was finite
    assert process['rank'] == 1
    clips = process['batches'][-1]['clips']
    assert [clip['filename'] for clip in clips] == ranks[1]['videos'][6]
    assert {*clips[0]} == {'filename', 'sample_idx', 'sample_seed'}
    assert [p.name for p in tmp_path.glob('run/*.pth')].count(
        'epoch_2.pth'
    ) == 0
    assert torch.load(tmp_path / 'run/epoch_1.pth', weights_only=True)
    # The only traceback is that of the launcher.
    assert 'NotFiniteError' not in done.stderr
    assert 'exitcode  : 2 ' in done.stderr
