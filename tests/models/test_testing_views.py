# Copyright (c) MotionMAE contributors. All rights reserved.
"""Many views of a video, so many of them at a time."""

import importlib.util
from pathlib import Path

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from torch import nn

from mmmotionmae.apis import UsageError
from mmmotionmae.cli import test_options as testing

ROOT = Path(__file__).parents[2]
FINETUNE = (
    ROOT / 'configs/demo/vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py'
)
VIEWS = 6


def build(backbone, **test_cfg):
    """A recogniser whose weights depend on nothing but their names."""
    model = MODELS.build(
        dict(
            type='Recognizer3D',
            data_preprocessor=dict(
                type='ActionDataPreprocessor',
                mean=[114.0],
                std=[57.0],
                format_shape='NCTHW',
            ),
            backbone=dict(
                type=backbone,
                img_size=16,
                patch_size=8,
                embed_dims=24,
                depth=3,
                num_heads=3,
                num_frames=4,
            ),
            cls_head=dict(
                type='TimeSformerHead',
                num_classes=5,
                in_channels=24,
                average_clips='prob',
            ),
            test_cfg=test_cfg or None,
        )
    ).eval()
    torch.manual_seed(0)
    for _, parameter in sorted(model.named_parameters()):
        nn.init.normal_(parameter, std=0.3)
    return model


def draw(num_videos=1):
    torch.manual_seed(1)
    shape = (VIEWS, 3, 4, 16, 16)
    return dict(
        inputs=[
            torch.randint(256, shape, dtype=torch.uint8)
            for _ in range(num_videos)
        ],
        data_samples=[
            ActionDataSample().set_gt_label(0) for _ in range(num_videos)
        ],
    )


@torch.no_grad()
def one_by_one(video):
    """The mean of the probabilities of each view, in a loop."""
    model, scores = build('VisionTransformer'), []
    for view in video:
        clip = (view[None].float() - 114) / 57
        logits = model.cls_head(model.backbone(clip))
        scores.append(logits.softmax(dim=-1)[0])
    return sum(scores) / VIEWS


@pytest.mark.parametrize(
    'views,expected',
    [
        (None, [6]),
        (1, [1] * 6),
        (4, [4, 2]),
        (6, [6]),
        (7, [6]),
    ],
)
@pytest.mark.parametrize(
    'backbone', ['VisionTransformer', 'FusedVisionTransformer']
)
def test_scores_do_not_depend_on_how_many_at_a_time(backbone, views, expected):
    model = build(backbone, **({} if views is None else bound(views)))
    sizes = []
    model.backbone.register_forward_pre_hook(
        lambda _, args: sizes.append(len(args[0]))
    )
    data = draw()
    (sample,) = model.test_step(data)
    assert sizes == expected  # the most that are in memory at once
    scores = one_by_one(data['inputs'][0])
    assert scores.max() - scores.min() > 0.1
    torch.testing.assert_close(sample.pred_score, scores, atol=1e-6, rtol=0)


def bound(views):
    return dict(max_testing_views=views)


def config(views, batch_size):
    return Config(
        dict(
            model=dict(test_cfg=views if views is None else bound(views)),
            test_dataloader=dict(batch_size=batch_size),
        )
    )


def test_several_videos_in_a_batch_are_refused():
    # What happens without the check.
    with pytest.raises(AssertionError, match='only compatible'):
        build('VisionTransformer', **bound(4)).test_step(draw(2))
    with pytest.raises(UsageError) as error:
        testing.check_views(config(4, 2))
    for part in ('max_testing_views=4', '2 videos', 'batch_size=1'):
        assert part in str(error.value)
    for views, batch_size in [(4, 1), (None, 2)]:
        testing.check_views(config(views, batch_size))
    # The other way out that the message names.
    data = draw(2)
    model = build('VisionTransformer', max_testing_views=None)
    for sample, video in zip(
        model.test_step(data), data['inputs'], strict=True
    ):
        torch.testing.assert_close(
            sample.pred_score, one_by_one(video), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize('views', [-1, 1.5, 'all'])
def test_a_number_that_is_none(views):
    with pytest.raises(UsageError, match=f'max_testing_views.*{views!r}'):
        testing.check_views(config(views, 1))


def test_the_tool_checks_before_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(
        'test_tool', ROOT / 'tools/test.py'
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    option = 'model.test_cfg.max_testing_views=3'
    argv = [str(FINETUNE), 'none', '--cfg-options', option]
    with pytest.raises(UsageError, match='a batch has 64 videos'):
        tool.test(tool.parse_args(argv))
    assert not list(tmp_path.iterdir())
