# Copyright (c) MotionMAE contributors. All rights reserved.
"""The demo's last part: video object segmentation with frozen encoders."""

from collections.abc import Mapping
from pathlib import Path

from jobs import Job, Results

CONFIGS = Path('configs/demo')
ENCODER = CONFIGS / 'vit-tiny-p8_label-propagation_moving-shapes.py'
# Config and checkpoint of what needs no training.
BASELINES = {
    'the first mask, copied': (
        CONFIGS / 'copy-first-mask_moving-shapes.py',
        None,
    ),
    'raw pixels': (
        CONFIGS / 'raw-pixels-p8_label-propagation_moving-shapes.py',
        None,
    ),
    'encoder, random weights': (ENCODER, 'none'),
}
ORACLE = {
    'true masks, through the grid': (
        CONFIGS / 'grid-oracle-p8_moving-shapes.py',
        None,
    ),
}
COST = 2.0  # seconds, about
COLUMNS = ('J&F-Mean', 'J-Mean', 'F-Mean')
NOTE = (
    'DAVIS metrics (%) on generated sequences: mean of region similarity J '
    'and boundary accuracy F. Each frame is labelled by its nearest '
    'neighbours, in the features of the row, among patches of the first frame '
    'and those before. Objects and background have textures of the same '
    'colours, the camera moves, and things without a label lie about, one of '
    'them with the shape and the texture of an object. The last row is no '
    'bound: the labels of a patch are hard there, propagated ones are soft.'
)


def plan_jobs(
    out_dir: Path, checkpoints: Mapping[str, Path | None]
) -> dict[str, Job]:
    """Plan the tests.

    Args:
        out_dir: The folder of the demo.
        checkpoints: Of the pre-trained encoders, by name. None: it is not
            there yet, and the test is left out.

    Returns:
        By the names of the rows of the table.
    """
    pretrained = {
        f'encoder, {name}': (
            ENCODER,
            None if checkpoint is None else str(checkpoint),
        )
        for name, checkpoint in checkpoints.items()
    }
    jobs = {}
    for number, (name, (config, checkpoint)) in enumerate(
        {**BASELINES, **pretrained, **ORACLE}.items()
    ):
        if name in pretrained and checkpoint is None:
            continue
        work_dir = out_dir / 'segmentation' / str(number)
        args = [str(config), *([checkpoint] if checkpoint else [])]
        args += ['--work-dir', str(work_dir)]
        args += ['--show-dir', str(work_dir / 'pictures')]
        jobs[name] = Job(
            f'segment: {name}', 'test', tuple(args), work_dir, COST
        )
    return jobs


def table(plan: Mapping[str, Job], results: Results) -> list[list[str]]:
    """The rows of the result: name and a cell for each of ``COLUMNS``."""
    return [
        [
            row,
            *(
                f'{100 * results.metrics[job.name][f"davis/{column}"]:.1f}'
                for column in COLUMNS
            ),
        ]
        for row, job in plan.items()
    ]


def print_table(rows: list[list[str]]) -> None:
    """The result, for the terminal."""
    width = max(len(row[0]) for row in rows)
    head = ''.join(f'{column.split("-")[0]:>7}' for column in COLUMNS)
    print(f'\n{"segmentation by":<{width}}{head}')
    for name, *cells in rows:
        print(f'{name:<{width}}' + ''.join(f'{cell:>7}' for cell in cells))
    print('DAVIS metrics (%) on the generated sequences\n')


def pictures(
    plan: Mapping[str, Job], number: int = 2
) -> list[tuple[str, Path]]:
    """Overlays of the last pre-trained encoder on some sequences.

    Returns:
        Name of the sequence and its picture.
    """
    *_, job = list(plan.values())[: -len(ORACLE)]
    paths = sorted((job.work_dir / 'pictures').glob('*.png'))
    return [(path.stem, path) for path in paths[:number]]
