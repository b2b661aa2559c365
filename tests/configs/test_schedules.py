# Copyright (c) MotionMAE contributors. All rights reserved.
"""Learning rates of every step are VideoMAE's, on any number of processes."""

import numpy as np
import pytest
from helpers.config_files import BY_STEM, PRETRAININGS, Name, each, read
from helpers.videomae_recipes import (
    RECIPES,
    START,
    one_weight,
    our_lr,
    recipe_of,
    scale_lr,
    steps_of,
    videomae_lr,
)


@each(RECIPES)
def test_every_step(path):
    """Epochs of three steps.

    MMEngine counts batches, not steps of the optimiser. With `n` accumulated
    batches the learning rate of a step is that of its last batch, which lies
    between VideoMAE's of this step and of the next.
    """
    cfg = read(path)
    base, final, warm_up, epochs = recipe_of(cfg)
    n = Name.of(path.stem).accumulated
    lrs = [lr for (lr,) in steps_of(cfg, one_weight(base), 3 * n)]
    batches = (base, final, 3 * n * warm_up, 3 * n * epochs)
    expected = [our_lr(i, *batches) for i in range(len(lrs))]
    np.testing.assert_allclose(lrs, expected, rtol=1e-6)

    schedule = (base, final, 3 * warm_up, 3 * epochs)
    theirs = np.array([videomae_lr(i, *schedule) for i in range(3 * epochs)])
    ours = np.array(lrs[n - 1 :: n])
    slack = START * base  # of the start of warm-up
    if n == 1:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=slack)
    else:
        following = np.append(theirs[1:], final)
        low, high = np.sort([theirs, following], axis=0)
        assert (ours >= low * (1 - 1e-6)).all()
        assert (ours <= high * (1 + 1e-6) + slack).all()
        # They are in time with each other at the end of the warm-up.
        assert ours[3 * warm_up - 1] == pytest.approx(base, rel=1e-6)


@pytest.mark.parametrize(
    ('stem', 'videos'),
    [
        # About as many as there are; whole batches, for there is nothing to
        # round then: 82 steps an epoch, and 117.
        ('motionmae_vit-base-p16_32xb64-16x2x1-amp-800e_sthv2-rgb', 82 * 2048),
        (
            'motionmae_vit-base-p16_32xb64-16x4x1-amp-1600e_kinetics400-rgb',
            117 * 2048,
        ),
        (
            'vit-base-p16_motionmae-sthv2-pre_64xb8-u16-amp-50e_sthv2-rgb',
            329 * 512,
        ),
    ],
)
def test_real_schedule(stem, videos):
    """As long as VideoMAE's, in steps, and the same at each.

    An epoch of repeated sampling has `num_repeats` times as many steps, and
    there are as many times fewer epochs, of warm-up as well.
    """
    cfg, name = read(BY_STEM[stem]), Name.of(stem)
    epoch_length = videos // (cfg.train_dataloader.batch_size * name.gpus)
    pretraining = BY_STEM[stem] in PRETRAININGS
    base_lr, min_lr, warm_up = (
        (1.5e-4, 1e-5, 40) if pretraining else (5e-4, 1e-6, 5)
    )
    per_epoch = videos // name.batch_size
    schedule = (
        base_lr * name.batch_size / 256,
        min_lr * name.batch_size / 256,
        warm_up * per_epoch,
        name.epochs * per_epoch,
    )
    wrapper = one_weight(cfg.optim_wrapper.optimizer.lr)
    lrs = [lr for (lr,) in steps_of(cfg, wrapper, epoch_length)]
    assert len(lrs) == name.epochs * per_epoch
    first = schedule[2]
    for step in (
        *(1, first // 2, first - 1, first, first + 1, len(lrs) // 2),
        *(len(lrs) - 2, len(lrs) - 1),
    ):
        theirs = videomae_lr(step, *schedule)
        slack = START * schedule[0] if step < first else 0
        assert lrs[step] == pytest.approx(theirs, rel=1e-6, abs=slack)
    assert lrs[0] == pytest.approx(START * schedule[0])
    assert lrs[first - 1] == pytest.approx(schedule[0], rel=1e-9)


# ------------------------------------------------------ learning rate, ranks


@pytest.mark.parametrize('ranks', [1, 8, 64])
def test_learning_rate_follows_the_number_of_processes(ranks):
    """lr * batch_size * update_freq * world_size / 256, min_lr likewise.

    VideoMAE's batch_size is of clips in pre-training, and of videos in
    fine-tuning, where each gives num_sample clips.
    """
    for path in RECIPES:
        cfg = read(path)
        loader = cfg.train_dataloader
        batch_size = loader.batch_size
        if path in PRETRAININGS:
            batch_size *= loader.dataset.num_repeats
        accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
        factor = batch_size * accumulated * ranks / 256
        wrapper = one_weight(cfg.optim_wrapper.optimizer.lr)
        scale_lr(cfg, wrapper, ranks)
        (group,) = wrapper.optimizer.param_groups
        assert group['lr'] == pytest.approx(cfg.base_lr * factor, rel=1e-6)
        lrs = [lr for (lr,) in steps_of(cfg, wrapper, 1)]
        # The last step is 1 of `len` before the end of the cosine.
        schedule = (
            cfg.base_lr * factor,
            cfg.min_lr * factor,
            cfg.param_scheduler[0].end,
            len(lrs),
        )
        last = videomae_lr(len(lrs) - 1, *schedule)
        assert lrs[-1] == pytest.approx(last, rel=1e-6), path.stem


@each(RECIPES)
def test_learning_rate_of_the_config(path):
    """It is that for the number of processes in the name."""
    cfg, name = read(path), Name.of(path.stem)
    lr = cfg.optim_wrapper.optimizer.lr
    wrapper = one_weight(lr)
    scale_lr(cfg, wrapper, name.gpus)
    assert wrapper.optimizer.param_groups[0]['lr'] == pytest.approx(
        lr, rel=1e-6
    )
    repeats = cfg.train_dataloader.dataset.get('num_repeats', 1)
    samples = name.batch_size // (1 if path in PRETRAININGS else repeats)
    base, final, *_ = recipe_of(cfg)
    assert base == pytest.approx(cfg.base_lr * samples / 256, rel=1e-6)
    assert final == pytest.approx(cfg.min_lr * samples / 256, rel=1e-6)
