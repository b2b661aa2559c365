# Copyright (c) MotionMAE contributors. All rights reserved.
"""A training from stores that fail ends with the weights of plain files."""

import importlib.util
from pathlib import Path

import pytest
from helpers.processes import HUNG
from helpers.resumed_runs import PRETRAIN, differences, state_of, train
from helpers.stores import FaultyServer
from mmengine.hooks import Hook

__all__ = ['train']  # a fixture

TOOL = Path(__file__).parents[2] / 'tools/data/make_shards.py'
FAULTS = dict(error=0.05, stall=0.02, cut=0.02, short=0.02)
# Draws a fault of each kind within the first 80 requests; there are 100.
SEED = 6


class BadVideos(Hook):
    """Keeps what a data set calls bad."""

    def after_train(self, runner):
        dataset = runner.train_dataloader.dataset
        bad = dataset.bad_videos.read()
        self.reasons = [reason for _, reason in sorted(bad.items())]


@pytest.fixture
def stored(tmp_path, shapes_dir):
    """The videos of the demo, one of them broken: plain, and in shards."""
    lines = (shapes_dir / 'pretrain.txt').read_text().splitlines()
    for number, line in enumerate(lines):
        target = tmp_path / 'plain' / line
        target.parent.mkdir(parents=True, exist_ok=True)
        data = (shapes_dir / line).read_bytes()
        target.write_bytes(data[: len(data) // 2] if number == 9 else data)
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    spec = importlib.util.spec_from_file_location('shards_tool', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    argv = [tmp_path / 'list.txt', tmp_path / 'shards', '--prefix']
    argv += [tmp_path / 'plain', '--shard-size', 0.05, '--time-limit', HUNG]
    tool.pack(tool.parse_args([str(a) for a in argv]))
    assert len(list((tmp_path / 'shards').glob('*.tar'))) > 2
    return tmp_path


DATASET = 'train_dataloader.dataset'


def options(ann_file, prefix):
    return [
        f'{DATASET}.ann_file={ann_file}',
        f'{DATASET}.data_prefix.video={prefix}',
        f'{DATASET}.pipeline.1.max_bytes=0',  # every sample is read anew
        f'{DATASET}.backend_args.request_timeout=1.0',
        f'{DATASET}.backend_args.retry_delays={",".join(40 * ["0"])}',
    ]


def test_weights_are_those_of_plain_files(train, stored):
    plain_bad = BadVideos()
    plain = train(
        PRETRAIN,
        'plain_run',
        epochs=1,
        options=options(stored / 'list.txt', stored / 'plain'),
        hooks=[plain_bad],
    )
    assert len(plain_bad.reasons) == 1
    shards = stored / 'shards'
    server = FaultyServer(stored, FAULTS, seed=SEED)
    with server.running() as url:
        places = [
            ('shards', options(shards / 'list.txt', f'{url}/shards'), 2),
            ('files', options(stored / 'list.txt', f'{url}/plain'), 0),
        ]
        for name, given, workers in places:
            bad = BadVideos()
            run = train(
                PRETRAIN,
                f'{name}_run',
                epochs=1,
                options=given,
                hooks=[bad],
                workers=workers,
            )
            assert not differences(state_of(plain), state_of(run)), name
            (reason,) = bad.reasons
            assert reason.startswith(plain_bad.reasons[0])
    assert set(server.counts) == {*FAULTS, None}
