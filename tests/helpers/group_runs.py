"""Trainings of one process group, one after the other.

`run_group` starts the processes; this file is what they run.
"""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

HUNG = 1800  # as in `processes.py`; this file runs by itself, too
ROOT = Path(__file__).parents[2]


def run_group(num_processes, runs, cwd, env):
    """Run trainings on so many processes.

    Args:
        num_processes: Number of processes.
        runs: Work dir -> arguments of `tools/train.py`, without a config.
            A name may have a suffix, `run+resumed`, which the dir has not.
        cwd: Where the work dirs are.
        env: The environment.

    Returns:
        Name -> a dict: `losses`, the mean of all processes; `videos`, of each
        step, with the sum of each mask's positions, of all processes; `error`.
    """
    (cwd / 'runs.json').write_text(json.dumps(runs))
    done = subprocess.run(
        [
            *[sys.executable, '-m', 'torch.distributed.run', '--standalone'],
            *[f'--nproc-per-node={num_processes}', __file__],
        ],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((cwd / 'results.json').read_text())


def main():
    """Run what is in `runs.json`."""
    import mmengine.config.config
    import torch
    import torch.distributed as dist
    from mmengine.hooks import Hook

    from helpers.resumed_runs import PRETRAIN, load_tool
    from mmmotionmae.compat import end_process, leave_process_group
    from mmmotionmae.utils.errors import MMMotionMAEError

    mmengine.config.config.FormatCode = lambda text, **style: (text, True)
    tool = load_tool('train')
    os.environ['LOCAL_RANK'] = os.environ.get('LOCAL_RANK', '0')

    class Record(Hook):
        priority = 'VERY_LOW'

        def __init__(self):
            self.losses, self.videos = [], []

        def after_train_iter(self, runner, batch_idx, data_batch, outputs):
            self.losses.append(outputs['loss'].detach().double().clone())
            self.videos.append(
                [
                    [
                        Path(sample.filename).name,
                        int(sample.mask.flatten().nonzero().sum()),
                    ]
                    for sample in data_batch['data_samples']
                ]
            )

    results = {}
    for name, arguments in json.loads(Path('runs.json').read_text()).items():
        record, error = Record(), None
        argv = [
            *[str(PRETRAIN), '--work-dir', name.partition('+')[0]],
            *['--launcher', 'pytorch', '--no-validate', *arguments],
            f'experiment_name={uuid.uuid4().hex}',
            'log_level=ERROR',
        ]
        try:
            tool.train(tool.parse_args(argv), [record])
        except MMMotionMAEError as caught:
            error = str(caught)
        everywhere = [None] * dist.get_world_size()
        dist.all_gather_object(everywhere, record.videos)
        losses = torch.stack([*record.losses, torch.zeros(())])[:-1]
        dist.all_reduce(losses)
        results[name] = dict(
            losses=(losses / dist.get_world_size()).tolist(),
            videos=[
                sorted(sum(step, [])) for step in zip(*everywhere, strict=True)
            ],
            error=error,
        )
    if dist.get_rank() == 0:
        Path('results.json').write_text(json.dumps(results))
    if leave_process_group():
        end_process(0)


if __name__ == '__main__':
    sys.path.insert(0, str(ROOT / 'tests'))
    main()
