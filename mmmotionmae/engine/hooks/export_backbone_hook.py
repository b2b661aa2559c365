# Copyright (c) MotionMAE contributors. All rights reserved.
import re
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from mmaction.registry import HOOKS
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    is_main_process,
)
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor

from ...utils.provenance import as_read, hash_tensors, unwrap
from ...utils.sharding import holds_parts
from ..backbone_export import (
    FORMATS,
    PREFIX,
    describe_data,
    encoder_tensors,
    find_origin,
    make_backbone_card,
    write_backbone,
)
from .bad_videos_hook import robust_datasets

INFO = 'export_backbone'  # in the message hub, and so in checkpoints
LAST = 'backbone'  # the file of the last weights


class Best(NamedTuple):
    """The best checkpoint so far, by one metric."""

    metric: str
    score: float
    checkpoint: str


@HOOKS.register_module()
class ExportBackboneHook(Hook):
    """Write the encoder that is trained into a file of its own.

    ``backbone.pth`` in the work dir has the weights of the last checkpoint,
    or of the end of training, under MMAction2's names, so that all of these
    take it: ``init_cfg=dict(type='Pretrained', checkpoint='backbone.pth',
    prefix='backbone.')``, ``load_from`` and ``weights_only`` loading. Where
    ``CheckpointHook`` has a ``save_best``, ``backbone_best.pth`` has the
    weights of the best checkpoint; with several metrics there is one for
    each, such as ``backbone_best_acc_top1.pth``.

    Beside each file, and inside it (under ``meta``; in safetensors that is
    JSON in the metadata), a card says where the weights come from:
    ``backbone.json``. Its entries are those of :func:`make_backbone_card`,
    and

    * ``weights``: ``'last'`` or ``'best'``; ``averaged``: whether ``EMAHook``
      was on;
    * ``epoch`` and ``iter``: how many of them were done;
    * ``best``: the best score so far of each metric of ``save_best``;
    * ``bad_videos``: those of the training set that could not be loaded;
    * ``tensors``: ``sha256`` (of ``hash_tensors``, sorted by name), ``count``
      and ``parameters``, the number of values;
    * ``run``: the same for a run and what resumes it.

    With ``EMAHook`` the averaged weights are written, as in the checkpoints,
    for these are what is evaluated. Nothing is written where the encoder is
    frozen, or where each process saves a part of the weights. A file of
    another run is renamed to ``<name>-<date>``, never replaced.

    Args:
        format (str): ``'pth'``, or ``'safetensors'``, with the same names.
            Defaults to ``'pth'``.
        interval (int): Write the last weights together with every so many
            checkpoints, for runs that are interrupted. 0: at the end only.
            Defaults to 1.

    Raises:
        ValueError: If the format is none of these.
    """

    # After EMAHook, which puts the averaged weights into a checkpoint.
    priority = 'LOW'

    def __init__(self, format: str = 'pth', interval: int = 1) -> None:
        if format not in FORMATS:
            raise ValueError(
                f'format must be one of {", ".join(FORMATS)}; it is '
                f'{format!r}.'
            )
        self.format = format
        self.interval = interval
        self._is_trained = False
        self._bad_videos: set[str] = set()
        self._best: dict[str, Best] = {}
        self._saved_iters: set[int] = set()
        self._exported: Any = None  # iteration and bad videos of the last

    def before_train(self, runner: Runner) -> None:
        """Find out what will be exported, and what it is made of."""
        self._is_trained = any(
            parameter.requires_grad
            for name, parameter in runner.model.named_parameters()
            if PREFIX in name or 'flat_param' in name  # the latter: FSDP's
        )
        if not self._is_trained or not is_main_process():
            return
        # What a resumed run cannot know any more comes from its checkpoint.
        hub = runner.message_hub
        self._info = hub.get_info(INFO) or dict(
            run=uuid.uuid4().hex,
            origin=find_origin(runner),
            bad_videos=[],
            metrics={},
        )
        hub.update_info(INFO, self._info)
        self._bad_videos = {*self._info['bad_videos']}
        self._data = describe_data(runner.train_dataloader.dataset)
        self._best = self._find_best(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Gather the bad videos that the processes have found."""
        if not self._is_trained:
            return
        for part in robust_datasets(runner.train_dataloader.dataset):
            found = all_gather_object(part.bad_videos.read())
            self._bad_videos.update(*found)
        if is_main_process():
            self._info['bad_videos'] = sorted(self._bad_videos)
            runner.message_hub.update_info(INFO, self._info)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Export what is about to be saved."""
        parts = holds_parts(checkpoint.get('state_dict', {}))
        if not self._is_trained or not (parts or is_main_process()):
            return
        due: list[list[str]] = [[]]
        if is_main_process():
            due[0] = self._find_due(runner, checkpoint['meta']['iter'])
        if parts:  # which all processes have to gather
            broadcast_object_list(due)
        if due[0]:
            self._export(runner, checkpoint, *due[0])

    def after_train(self, runner: Runner) -> None:
        """Export the last weights, unless they are exported."""
        due = [
            self._is_trained
            and self._exported != (runner.iter, self._bad_videos)
        ]
        broadcast_object_list(due)
        if not due[0]:
            return
        # All processes take part in this if each has a part of the weights.
        if hasattr(runner, 'strategy'):
            state = runner.strategy.model_state_dict()
        else:
            state = unwrap(runner.model).state_dict()
        checkpoint = dict(
            state_dict=dict(state),
            meta=dict(epoch=runner.epoch, iter=runner.iter),
        )
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook.before_save_checkpoint(runner, checkpoint)
        if is_main_process() or holds_parts(checkpoint['state_dict']):
            self._export(runner, checkpoint, LAST)

    def _find_due(self, runner: Runner, iteration: int) -> list[str]:
        """Names of the files that this checkpoint is for."""
        before, self._best = self._best, self._find_best(runner)
        changed = [
            name
            for name, best in self._best.items()
            if best != before.get(name)
        ]
        if changed:
            return changed
        # After a new best one, MMEngine may save the last one once more.
        self._saved_iters.add(iteration)
        due = self.interval > 0 and len(self._saved_iters) % self.interval == 0
        return [LAST] if due else []

    def _find_best(self, runner: Runner) -> dict[str, Best]:
        """Name of a file -> the checkpoint whose encoder is to be in it."""
        info, metrics = runner.message_hub.runtime_info, self._info['metrics']
        found = {}
        for hook in runner.hooks:
            if not isinstance(hook, CheckpointHook) or not hook.save_best:
                continue
            for metric in hook.key_indicators:
                # As `CheckpointHook` names them.
                suffix = f'_{metric}' if len(hook.key_indicators) > 1 else ''
                score = info.get(f'best_score{suffix}')
                path = info.get(f'best_ckpt{suffix}')
                if score is None or path is None:
                    continue
                name = re.sub(r'[^\w.-]', '_', f'backbone_best{suffix}')
                # Until its first validation a resumed run has 'auto' here.
                if metric != 'auto':
                    metrics[name] = metric
                found[name] = Best(
                    metrics.get(name, metric), float(score), str(path)
                )
        runner.message_hub.update_info(INFO, self._info)
        return found

    def _export(self, runner: Runner, checkpoint: dict, *names: str) -> None:
        """Write an encoder into files of these names, with cards."""
        tensors = encoder_tensors(
            checkpoint.get('state_dict', {}), keep=is_main_process()
        )
        if not is_main_process():
            return
        for name in names:
            self._write(runner, checkpoint, name, tensors)
        if LAST in names:
            self._exported = checkpoint['meta']['iter'], {*self._bad_videos}

    def _write(
        self,
        runner: Runner,
        checkpoint: dict,
        name: str,
        tensors: dict[str, Tensor],
    ) -> None:
        """Write one file and its card."""
        path = Path(runner.work_dir) / f'{name}.{self.format}'
        best = [b for n, b in self._best.items() if name in (LAST, n)]
        if not tensors:
            runner.logger.warning(
                f'{path} is not written: this process has no whole tensors '
                f'named {PREFIX}*.'
            )
            return
        for part in robust_datasets(runner.train_dataloader.dataset):
            self._bad_videos.update(part.bad_videos.read())
        card = dict(
            weights='last' if name == LAST else 'best',
            averaged=any(isinstance(h, EMAHook) for h in runner.hooks),
            epoch=checkpoint['meta']['epoch'],
            iter=checkpoint['meta']['iter'],
            best={b.metric: b.score for b in best},
            **make_backbone_card(runner, self._info['origin'], self._data),
            bad_videos=sorted(self._bad_videos),
            tensors=dict(
                sha256=hash_tensors(tensors),
                count=len(tensors),
                parameters=sum(t.numel() for t in tensors.values()),
            ),
            run=self._info['run'],
        )
        for file, earlier in write_backbone(path, tensors, as_read(card)):
            runner.logger.info(f'What was in {file} is now in {earlier}')
        runner.logger.info(f'The encoder is in {path}')
