# Copyright (c) MotionMAE contributors. All rights reserved.
"""Files that a resumed run may remove: those of its own folder."""

import os.path as osp
from functools import wraps
from typing import Any

from ..utils.patching import once


@once
def remove_own_checkpoints_only() -> None:
    """``CheckpointHook`` removes any file or folder that a checkpoint names.

    A resumed run takes the path of the best checkpoint so far from the one
    that it resumes, and removes it, be it a file or a whole folder, at the
    next best: a checkpoint from elsewhere could name a home folder, and one
    of a copied work dir names the files of the original. Here the file of
    that name in the run's own folder is meant. Old checkpoints to be removed
    are named by their number.

    Remove when: ``CheckpointHook`` keeps to its ``out_dir``.
    """
    from mmengine.hooks.checkpoint_hook import CheckpointHook

    before_train = CheckpointHook.before_train

    @wraps(before_train)
    def keep_to_own_folder(self: CheckpointHook, runner: Any) -> None:
        info = runner.message_hub.runtime_info
        if 'keep_ckpt_ids' in info:
            numbers = [x for x in info['keep_ckpt_ids'] if type(x) is int]
            info['keep_ckpt_ids'] = numbers
        before_train(self, runner)
        if self.save_best is None:
            return
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = self._in_own_folder(self.best_ckpt_path)
            return
        for name, path in self.best_ckpt_path_dict.items():
            self.best_ckpt_path_dict[name] = self._in_own_folder(path)

    def in_own_folder(self: CheckpointHook, path: Any) -> str | None:
        name = osp.basename(path) if isinstance(path, str) else ''
        if name in ('', '.', '..'):
            return None
        return str(self.file_backend.join_path(self.out_dir, name))

    CheckpointHook.before_train = keep_to_own_folder
    CheckpointHook._in_own_folder = in_own_folder
