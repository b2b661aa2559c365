# Copyright (c) MotionMAE contributors. All rights reserved.
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmaction
import mmengine
import numpy as np
import torch
from mmaction.registry import HOOKS
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from tqdm import tqdm

from ...apis.launch import UsageError
from ...fileio import complete_file, set_aside
from ...version import __version__

CARD = 'card.json'
# Settings, on any level of a config, that change no result of a sequence: the
# hash of the weights covers the first, the next are about memory, and the
# last chooses sequences.
NEUTRAL = ('init_cfg', 'frames_per_batch', 'max_affinities', 'sequences')


@HOOKS.register_module()
class SequenceResultsHook(Hook):
    """Keep the results of a test over sequences, and go on with them.

    For a ``SequenceDataset`` with ``SequenceMetric`` objects. Before the first
    sequence, ``card.json`` in the folder of the results says what makes them:
    weights, model, data set, versions. A later test in the same work dir
    labels only the sequences whose results are not complete, if its card says
    the same (versions, seed, date and the path of the checkpoint aside; what
    counts are the weights themselves).

    While the test runs, a bar shows frames and frames per second. Where the
    output is not a terminal, each sequence gets a line in the log instead.

    Args:
        name (str): Folder in the work dir for the results of those metrics
            that have no ``out_dir`` of their own. Defaults to ``'results'``.
        overwrite (bool): Start anew. The folder of earlier results is renamed
            to ``<name>-<date>``, nothing is deleted. Defaults to False.
    """

    def __init__(self, name: str = 'results', overwrite: bool = False) -> None:
        self.name = name
        self.overwrite = overwrite
        self._bar = tqdm(disable=True)
        self._frames = 0  # of this rank
        self._seconds = 0.0

    def before_test(self, runner: Runner) -> None:
        """Find out what is done already; start the bar.

        Raises:
            UsageError: If there are results of something else.
        """
        dataset = runner.test_dataloader.dataset
        metrics = [
            metric
            for metric in runner.test_evaluator.metrics
            if hasattr(metric, 'is_finished')
        ]
        for metric in metrics:
            if metric.out_dir is None:
                metric.out_dir = Path(runner.work_dir) / self.name
        # One process looks; all go by what it finds.
        found: list[Any] = [set(), None]
        if is_main_process():
            try:
                found[0] = self._open_results(runner, dataset, metrics)
            except UsageError as error:
                found[1] = str(error)
        broadcast_object_list(found)
        dataset.finished, problem = found
        if problem is not None:
            raise UsageError(problem)
        if dataset.finished:
            runner.logger.info(
                f'Going on: {len(dataset.finished)} of {len(dataset)} '
                'sequences are done.'
            )
            for other in runner.test_evaluator.metrics:
                if other not in metrics:
                    runner.logger.warning(
                        f'{type(other).__name__} gets no predictions of the '
                        'sequences that are done (--overwrite starts anew).'
                    )
        self._start_progress(runner, dataset)

    def _open_results(
        self, runner: Runner, dataset: Any, metrics: list[Any]
    ) -> set[str]:
        """Check, or write, the cards; returns what is finished."""
        sequences = [
            dataset.get_data_info(i)['sequence'] for i in range(len(dataset))
        ]
        card = make_card(runner)
        for folder in dict.fromkeys(Path(m.out_dir) for m in metrics):
            if self.overwrite and folder.exists():
                earlier = set_aside(folder)
                runner.logger.info(f'What was in {folder} is now in {earlier}')
            path = folder / CARD
            if path.exists():
                old = json.loads(path.read_text(encoding='utf-8'))
                different = _differences(old, card)
                if different:
                    raise UsageError(
                        f'{folder} holds the results of something else '
                        f'({different}). Choose another --work-dir, or '
                        'start anew (--overwrite).'
                    )
                continue
            if any(
                metric.is_finished(sequence)
                for metric in metrics
                if Path(metric.out_dir) == folder
                for sequence in sequences
            ):
                raise UsageError(
                    f'{folder} holds results, but no {CARD} that says what '
                    'made them. Choose another --work-dir, or start anew '
                    '(--overwrite).'
                )
            with complete_file(path) as temporary:
                text = json.dumps(card, indent=2) + '\n'
                temporary.write_text(text, encoding='utf-8')
        return {
            sequence
            for sequence in sequences
            if all(metric.is_finished(sequence) for metric in metrics)
        }

    def _start_progress(self, runner: Runner, dataset: Any) -> None:
        infos = map(dataset.get_data_info, runner.test_dataloader.sampler)
        total = sum(
            len(info['frame_paths'])
            for info in infos
            if info['sequence'] not in dataset.finished
        )
        self._bar = tqdm(
            total=total,
            unit=' frames',
            # None: where the output is not a terminal.
            disable=None if total and is_main_process() else True,
        )
        self._frames, self._seconds = 0, 0.0
        self._start = time.monotonic()
        _unwrap(runner.model).on_frame = self._count_frame

    def _count_frame(self) -> None:
        self._frames += 1
        self._bar.update()

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Show which sequence is labelled."""
        self._bar.set_postfix_str(data_batch['data_samples'][0].sequence)
        self._before = self._frames, time.monotonic()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Log a sequence that was labelled."""
        now = time.monotonic()
        frames, start = self._frames - self._before[0], self._before[1]
        if not frames:  # done by an earlier run
            return
        self._seconds = now - self._start
        if self._bar.disable:
            names = ', '.join(sample.sequence for sample in outputs)
            runner.logger.info(
                f'[{batch_idx + 1}/{len(runner.test_dataloader)}] {names}: '
                f'{frames} frames, {frames / (now - start):.2f} frames/s'
            )

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Log the speed of all processes together."""
        self.close(runner)
        _unwrap(runner.model).on_frame = None
        ranks = all_gather_object((self._frames, self._seconds))
        frames = sum(rank[0] for rank in ranks)
        seconds = max(rank[1] for rank in ranks)
        if frames:
            runner.logger.info(
                f'{frames} frames in {seconds:.1f} s: '
                f'{frames / seconds:.2f} frames/s'
            )

    def close(self, runner: Runner) -> None:
        """End the line of the bar, also after an error."""
        self._bar.close()


def _unwrap(model: nn.Module) -> Any:
    return model.module if is_model_wrapper(model) else model


def make_card(runner: Runner) -> dict[str, Any]:
    """What makes the results of a test.

    Args:
        runner: With the weights loaded.

    Returns:
        A dict for JSON: under ``fingerprint`` all that changes the results
        (``weights``, a hash; ``protocol`` of the model; the config of model,
        test loop and data set), and beside it ``checkpoint``, ``seed``,
        ``versions`` and ``date``.
    """
    model, cfg = _unwrap(runner.model), runner.cfg
    checkpoint = cfg.get('load_from')
    card = dict(
        fingerprint=dict(
            weights=hash_weights(model),
            protocol=getattr(model, 'protocol', None),
            model=cfg.get('model'),
            test_cfg=cfg.get('test_cfg'),
            dataset=cfg.test_dataloader.dataset,
        ),
        checkpoint=dict(path=checkpoint, sha256=_hash_file(checkpoint)),
        seed=runner.seed,
        versions=dict(
            mmmotionmae=__version__,
            torch=torch.__version__,
            mmaction=mmaction.__version__,
            mmengine=mmengine.__version__,
            numpy=np.__version__,
        ),
        date=time.strftime('%Y-%m-%d %H:%M:%S %z'),
    )
    # As a card looks that was read from a file: tuples are lists.
    plain: dict[str, Any] = json.loads(json.dumps(card, default=str))
    return plain


def hash_weights(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, with names and shapes.

    Unlike that of a checkpoint file it covers random weights, those of an
    ``init_cfg`` and those that a checkpoint lacks.
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            digest.update(f'{name} {value.dtype} {[*value.shape]};'.encode())
            values = value.detach().cpu().reshape(-1).contiguous()
            digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _hash_file(path: str | None) -> str | None:
    """SHA-256 of a file; None if it is none on this machine."""
    if path is None or not Path(path).is_file():
        return None
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What two cards differ in; empty if it does not change results."""
    pairs = _different_items(old['fingerprint'], new['fingerprint'])
    if 'weights' in pairs:  # say where they are from
        for name in ('checkpoint', 'seed'):
            pairs |= _different_items({name: old[name]}, {name: new[name]})
    texts = [
        f'{name}: {_short(before)} -> {_short(after)}'
        for name, (before, after) in pairs.items()
    ]
    if len(texts) > 5:
        texts[5:] = [f'and {len(texts) - 5} more']
    return '; '.join(texts)


def _different_items(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    before, after = dict(_flatten(old)), dict(_flatten(new))
    return {
        name: (before.get(name), after.get(name))
        for name in before | after
        if before.get(name) != after.get(name)
    }


def _flatten(value: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    """All leaves, with names such as ``model.backbone.depth``."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    if not items:
        yield name, value
    for key, item in items:
        if key not in NEUTRAL:
            yield from _flatten(item, f'{name}.{key}' if name else str(key))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 64 else f'{text[:12]}...{text[-12:]}'
