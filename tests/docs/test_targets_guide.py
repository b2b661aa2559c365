# Copyright (c) MotionMAE contributors. All rights reserved.
"""The example of docs/notes/targets.md is a target, and its table is true."""

import re

import torch
from conftest import ROOT, as_batch, tube_mask
from mmaction.registry import MODELS

from mmmotionmae.models import ReconstructionTarget, TubeletTarget, targets

GUIDE = (ROOT / 'docs/notes/targets.md').read_text()


def test_target_of_the_guide(tiny_model):
    code = GUIDE.split('```python\n')[-1].split('```')[0]
    exec(code, dict(MODELS=MODELS, TubeletTarget=TubeletTarget))
    model = tiny_model(targets=dict(grey=dict(type='GreyTarget', norm='none')))
    frames = torch.randint(0, 256, (2, 3, 8, 32, 32), dtype=torch.uint8)
    mask = tube_mask()
    data = model.data_preprocessor(as_batch(frames, mask))
    assert set(model(**data, mode='loss')) == {'loss_grey', 'r2_grey'}
    (sample, _) = model(**data, mode='predict')
    grey = sample.grey_reconstruction[0, 0]
    expected = frames[0].float().mean(0) / 255
    shown = (~mask[0]).reshape(4, 4, 4)
    assert model.targets['grey'].num_values == 2 * 8 * 8
    for t, h, w in shown.nonzero().tolist():
        place = (
            slice(2 * t, 2 * t + 2),
            slice(8 * h, 8 * h + 8),
            slice(8 * w, 8 * w + 8),
        )
        torch.testing.assert_close(grey[place], expected[place])


def test_table():
    rows = re.findall(r'^\| `(\w+)` \|.*?\| (\d+)[^|]*\|', GUIDE, flags=re.M)
    assert {name for name, _ in rows} == {
        name
        for name, cls in vars(targets).items()
        if isinstance(cls, type)
        and issubclass(cls, ReconstructionTarget)
        and cls not in (ReconstructionTarget, TubeletTarget)
    }
    for name, values in rows:
        target = MODELS.build(dict(type=name, name='x'))
        assert target.num_values == int(values)
