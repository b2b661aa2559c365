# Copyright (c) MotionMAE contributors. All rights reserved.
"""Plans of studies: which cells there are.

A plan is a config file, such as tools/studies/plans/small.py:

* ``configs``: the config files of ``pretrain``, ``finetune`` and ``vos``;
* ``domains``: what is pre-trained on. Each has ``lists``, relative to the
  data root; optionally ``held_out`` lists, to be reconstructed, ``steps``, and
  ``arms`` and ``pretrain_seeds`` of its own;
* ``tasks``: labelled data. Each has ``train`` and ``test`` lists,
  ``cluster`` (a regular expression; videos with the same
  groups depend on each other), optionally ``fraction`` of the labels (drawn
  anew for each of ``finetune_seeds`` and, for the linear probe, ``draws``),
  ``finetune_seeds`` of its own, and ``leave_one_cluster_out``: the linear
  probe is tested on each cluster after training on all others of both lists;
  ``classes``, their names, for a table of each class;
* ``segmentation``: DAVIS folders, by name, relative to the data root;
* ``arms``: changes of the pre-training config, by name, ``steps`` among
  them; None is no pre-training;
* ``factors``: likewise, for one seed, on the first domain;
* ``pretrain_seeds``, ``finetune_seeds``, ``factor_seeds``;
* ``pretrain_steps``, ``finetune_steps``, ``reconstruct_videos`` (how many
  held-out ones at most).
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from mmmotionmae.apis.runner import load_config
from mmmotionmae.datasets.annotation import read_video_list
from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.files import complete_file

from .cells import Cell

Videos = list[tuple[str, int]]

# Under which reconstructions are measured. Training has the first, but for
# factors that say otherwise.
MASKS = ('TubeMasking', 'RandomMasking')


class Plan:
    """The cells of a study.

    Args:
        path: The plan, a config file.
        data_root: Folder to which lists are relative.
        root: Folder of the study, for lists that are made.

    Raises:
        UsageError: If the plan or a list cannot be read, or an expression
            fits no video.
    """

    def __init__(self, cfg: Config, data_root: Path, root: Path) -> None:
        self.cfg, self.data_root, self.root = cfg, data_root, root
        self._lists: dict[str, Videos] = {}
        self._configs = {
            name: load_config(path) for name, path in cfg.configs.items()
        }

    def cells(self) -> list[Cell]:
        """All cells, each after its parent."""
        cells: list[Cell] = []
        cfg, domains = self.cfg, [*self.cfg.domains]
        for arms, seeds, where in (
            (cfg.arms, cfg.pretrain_seeds, domains),
            (
                cfg.get('factors', {}),
                cfg.get('factor_seeds', (0,)),
                domains[:1],
            ),
        ):
            for domain in where:
                spec = cfg.domains[domain]
                for seed in spec.get('pretrain_seeds', seeds):
                    for arm, options in arms.items():
                        if arm in spec.get('arms', arms):
                            cells += self._arm(domain, arm, options, seed)
        for task in self.cfg.tasks:
            cells += self._baselines(task)
        unique = {cell.name: cell for cell in cells}
        return list(unique.values())

    def _arm(
        self, domain: str, arm: str, options: Any, seed: int
    ) -> Iterator[Cell]:
        parent = None
        if options is not None:
            parent = self._pretrain(domain, arm, options, seed)
            yield parent
            yield from self._reconstruct(domain, parent, seed)
        elif domain != next(iter(self.cfg.domains)):
            return  # no pre-training is the same for all of them
        where = f'{domain if parent else "none"}/{arm}/seed{seed}'
        for task, spec in self.cfg.tasks.items():
            if domain in spec.get('domains', self.cfg.domains):
                cfg = self._finetune_config(task, spec)
                yield from self._probes(
                    f'linear/{where}', task, cfg, parent, seed
                )
                for number in spec.get(
                    'finetune_seeds', self.cfg.finetune_seeds
                ):
                    yield self._finetune(
                        where, task, cfg, parent, seed, number
                    )
        for name, folder in self.cfg.get('segmentation', {}).items():
            cfg = self._config('vos')
            cfg.test_dataloader.dataset.data_root = str(
                self.data_root / folder
            )
            yield Cell(
                f'vos/{where}/{name}',
                'vos',
                cfg,
                seed,
                parent=parent,
                settings=dict(data=folder),
            )

    def _config(self, name: str) -> Config:
        return Config(self._configs[name].to_dict())

    def _pretrain(
        self, domain: str, arm: str, options: Mapping[str, Any], seed: int
    ) -> Cell:
        spec = self.cfg.domains[domain]
        videos = [v for name in spec.lists for v in self.read(name)]
        cfg, changes = self._config('pretrain'), dict(options)
        steps = spec.get('steps', self.cfg.pretrain_steps)
        steps = changes.pop('steps', steps)
        cfg.merge_from_dict(changes)
        set_steps(cfg, steps, len(videos), checkpoints=8)
        cfg.train_dataloader.dataset.ann_file = str(
            self.write(f'pretrain_{domain}', videos)
        )
        cfg.train_dataloader.dataset.data_prefix = dict(
            video=str(self.data_root)
        )
        return Cell(
            f'pretrain/{domain}/{arm}/seed{seed}',
            'pretrain',
            cfg,
            seed,
            dict(train=as_text(videos)),
        )

    def _reconstruct(
        self, domain: str, parent: Cell, seed: int
    ) -> Iterator[Cell]:
        """How well held-out clips of the domain are reconstructed."""
        spec = self.cfg.domains[domain]
        if 'held_out' not in spec:
            return
        videos = [v for name in spec.held_out for v in self.read(name)]
        cfg = Config(parent.cfg.to_dict())
        cfg.train_dataloader.dataset.ann_file = str(
            self.write(f'held_out_{domain}', videos)
        )
        yield Cell(
            parent.name.replace('pretrain/', 'reconstruct/', 1),
            'reconstruct',
            cfg,
            seed,
            dict(test=as_text(videos)),
            parent,
            dict(
                num_videos=self.cfg.reconstruct_videos,
                masks=[*MASKS],
            ),
        )

    def _finetune_config(self, task: str, spec: Any) -> Config:
        cfg = self._config('finetune')
        train, test = self.read(spec.train), self.read(spec.test)
        # What is wrong with lists is told now, not after the pre-training.
        cfg.model.cls_head.num_classes = num_classes(spec, train, test)
        clusters([*train, *test], spec.cluster)
        for part, videos in (('train', train), ('test', test)):
            dataset = cfg[f'{part}_dataloader'].dataset
            dataset.ann_file = str(self.write(f'{task}_{part}', videos))
            dataset.data_prefix = dict(video=str(self.data_root))
        set_steps(cfg, self.cfg.finetune_steps, len(train), checkpoints=1)
        return cfg

    def _draw(
        self, task: str, cfg: Config, number: int
    ) -> tuple[Config, dict[str, str]]:
        """A config with a share of the labels, and the text of its lists."""
        spec = self.cfg.tasks[task]
        train, test = self.read(spec.train), self.read(spec.test)
        if 'fraction' in spec:
            train = draw(train, spec.fraction, number)
            cfg = Config(cfg.to_dict())
            cfg.train_dataloader.dataset.ann_file = str(
                self.write(f'{task}_train_{number}', train)
            )
            set_steps(cfg, self.cfg.finetune_steps, len(train), 1)
        return cfg, dict(train=as_text(train), test=as_text(test))

    def _finetune(
        self,
        where: str,
        task: str,
        cfg: Config,
        parent: Cell | None,
        seed: int,
        number: int,
    ) -> Cell:
        spec = self.cfg.tasks[task]
        cfg, lists = self._draw(task, cfg, number)
        return Cell(
            f'finetune/{where}/{task}/seed{number}',
            'finetune',
            cfg,
            1000 * seed + number,
            lists,
            parent,
            dict(cluster=spec.cluster),
        )

    def _probes(
        self,
        where: str,
        task: str,
        cfg: Config,
        parent: Cell | None,
        seed: int,
    ) -> Iterator[Cell]:
        """A linear classifier, or one for each draw of the labels."""
        kind = where.split('/')[0]
        spec = self.cfg.tasks[task]
        settings = dict(
            cluster=spec.cluster,
            leave_one_cluster_out=spec.get('leave_one_cluster_out', False),
        )
        draws = [('', 0)]
        if 'fraction' in spec:
            numbers = spec.get('draws', range(3))
            draws = [(f'/seed{number}', number) for number in numbers]
        for name, number in draws:
            drawn, lists = self._draw(task, cfg, number)
            path = f'{where}/{task}{name}'
            yield Cell(path, kind, drawn, seed, lists, parent, settings)

    def _baselines(self, task: str) -> Iterator[Cell]:
        """Frame differences, for what motion alone can tell."""
        cfg = self._finetune_config(task, self.cfg.tasks[task])
        yield from self._probes('differences', task, cfg, None, 0)

    def read(self, name: str) -> Videos:
        """The videos of a list."""
        if name not in self._lists:
            path = self.data_root / name
            if not path.is_file():
                raise UsageError(
                    f'There is no list {str(path)!r}. Say where the data is '
                    'with --data-root.'
                )
            # Paths are relative to the folder of the list.
            folder = Path(name).parent
            self._lists[name] = [
                ((folder / video).as_posix(), label)
                for video, label in read_video_list(str(path))
            ]
        return self._lists[name]

    def write(self, name: str, videos: Videos) -> Path:
        """Write a list for a run; another text goes to another file."""
        text = as_text(videos)
        mark = hashlib.sha256(text.encode()).hexdigest()[:8]
        path = self.root / 'lists' / f'{name}-{mark}.txt'
        if not path.is_file():
            with complete_file(path) as temporary:
                temporary.write_text(text)
        return path


def num_classes(spec: Any, train: Videos, test: Videos) -> int:
    """Number of classes of a task.

    Raises:
        UsageError: If videos have no label, all have the same, or a label is
            tested that is above those trained on.
    """
    for name, videos in ((spec.train, train), (spec.test, test)):
        if any(label < 0 for _, label in videos):
            raise UsageError(f'The videos of {name} have no labels.')
    trained, tested = (
        {label for _, label in videos} for videos in (train, test)
    )
    if len(trained) < 2:
        raise UsageError(f'All videos of {spec.train} have the same label.')
    if max(tested) > max(trained):
        raise UsageError(
            f'{spec.test} has the label {max(tested)}, but those of '
            f'{spec.train} end with {max(trained)}.'
        )
    return 1 + max(trained)


def as_text(videos: Videos) -> str:
    """The text of a list."""
    return ''.join(
        f'{path} {label}\n' if label >= 0 else f'{path}\n'
        for path, label in videos
    )


def draw(videos: Videos, fraction: float, seed: int) -> Videos:
    """A share of the videos of each class, at least one, in their order."""
    rng = np.random.default_rng(seed)
    labels = np.array([label for _, label in videos])
    chosen: list[int] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        number = max(1, round(fraction * len(members)))
        chosen += rng.permutation(members)[:number].tolist()
    return [videos[index] for index in sorted(chosen)]


def clusters(videos: Videos, pattern: str) -> list[str]:
    """To which cluster each video belongs.

    Raises:
        UsageError: If the expression is none, fits a video not, or has no
            group.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f'The expression {pattern!r} for clusters is none: {error}.'
        ) from error
    names = []
    for path, _ in videos:
        match = re.search(pattern, path)
        if match is None or not match.groups():
            raise UsageError(
                f'The expression {pattern!r} for clusters finds none in '
                f'{path!r}; it needs a group that fits every path.'
            )
        # No spaces: records part them so.
        names.append('_'.join(match.groups('')).replace(' ', '_'))
    return names


def set_steps(
    cfg: Config, steps: int, num_videos: int, checkpoints: int
) -> None:
    """Give a config so many steps, in whole epochs, with its schedule.

    The shares of the phases of the schedule stay what they are. A batch is
    at most all videos.
    """
    loader = cfg.train_dataloader
    loader.batch_size = min(loader.batch_size, num_videos)
    per_epoch = num_videos // loader.batch_size
    before, epochs = cfg.train_cfg.max_epochs, max(2, round(steps / per_epoch))
    for scheduler in cfg.param_scheduler:
        for key in ('begin', 'end'):
            scheduler[key] = round(scheduler[key] * epochs / before)
    warm_up, cosine = cfg.param_scheduler
    warm_up.end = cosine.begin = max(1, warm_up.end)
    cfg.train_cfg.max_epochs = cosine.end = epochs
    cfg.default_hooks.checkpoint.interval = max(1, epochs // checkpoints)
