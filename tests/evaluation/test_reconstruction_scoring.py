# Copyright (c) MotionMAE contributors. All rights reserved.
"""R² of pre-training on clips that are not trained on."""

import pytest
import torch
from conftest import as_batch, tube_mask
from mmengine.runner import Runner
from sklearn.metrics import r2_score

from mmmotionmae.evaluation import score_reconstruction
from mmmotionmae.evaluation.reconstruction_scoring import (
    explained_shares,
    score_batch,
)
from mmmotionmae.models.targets import interpolate_target
from mmmotionmae.utils.errors import UsageError

NAMES = ['r2_pixel', 'r2_motion', 'r2_motion_moving']


def random_batch(size):
    frames = torch.randint(256, (size, 3, 8, 32, 32), dtype=torch.uint8)
    # Half of each clip stands still, with little noise.
    frames[..., :16] = (
        frames[:, :, :1, :, :16] // 128 + frames[..., :16] // 128
    )
    frames[:, :, :, :8] = frames[:, :, :1, :8]
    return as_batch(frames, tube_mask(size))


def test_one_batch_is_scored_as_training_does(tiny_model):
    model = tiny_model().eval()
    batch = random_batch(3)
    scores = score_reconstruction(model, [batch])
    assert list(scores) == NAMES
    logged = model(**model.data_preprocessor(batch), mode='loss')
    for name, value in scores.items():
        assert value == pytest.approx(logged[name].item(), abs=1e-6)


def test_batches_are_scored_together_with_scikit_learn(tiny_model):
    """And the oracle beside the model, over the same tokens."""
    model = tiny_model(head=dict(motion_norm='none', pixel_norm='clip'))
    batches = [random_batch(3), random_batch(1)]
    scores = score_reconstruction(model, batches, oracle=True)
    assert list(scores) == [
        name + end for name in NAMES for end in ('', '_oracle')
    ]
    assert model.training
    found = {name: [] for name in scores}
    for batch in batches:
        data = model.eval().data_preprocessor(batch)['inputs']
        split, videos = data['split'], data['videos']
        preds = model.head(model.decode(data['clip'], split))
        frames = torch.cat(batch['inputs'])
        for name, pred in preds.items():
            target = model.targets[name]
            truth = target.build(videos[name], split.masked)
            guess = interpolate_target(
                target, frames, videos[name], split, 2, 8
            )
            true = truth.values.flatten(2)
            for end, value in ('', pred), ('_oracle', guess):
                pair = torch.stack((true, value.detach()), -1)
                found[f'r2_{name}{end}'].append(pair.flatten(0, 2))
                if name == 'motion':
                    moving = true.square().mean(-1).sqrt() > 0.02
                    assert moving.any() and not moving.all()
                    pair = pair[moving].flatten(0, 1)
                    found[f'r2_motion_moving{end}'].append(pair)
    for name, pairs in found.items():
        true, pred = torch.cat(pairs).unbind(-1)
        assert scores[name] == pytest.approx(r2_score(true, pred), abs=1e-4)


def test_clips_of_one_sample_stay_together(tiny_model):
    model = tiny_model().eval()
    batch = random_batch(4)
    one_by_one = score_batch(model, batch)
    pairs = dict(
        inputs=[torch.cat(batch['inputs'][i : i + 2]) for i in (0, 2)],
        data_samples=batch['data_samples'][::2],
    )
    masks = [s.mask for s in batch['data_samples']]
    for i, sample in enumerate(pairs['data_samples']):
        sample.set_field(torch.cat(masks[2 * i : 2 * i + 2]), 'mask')
    found = score_batch(model, pairs)
    assert [one['pixel'].sums['total'].shape[0] for one in found] == [2, 2]
    whole = explained_shares(found)
    assert whole == pytest.approx(explained_shares(one_by_one), abs=1e-6)


def test_masks_are_needed(tiny_model):
    batch = random_batch(1)
    del batch['data_samples'][0].mask
    with pytest.raises(UsageError, match='no mask in the data samples'):
        score_reconstruction(tiny_model(), [batch])
    assert explained_shares([]) == {}


class Clips(torch.utils.data.Dataset):
    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return len(self.batch['inputs'])

    def __getitem__(self, i):
        return {key: value[i] for key, value in self.batch.items()}


@pytest.mark.parametrize('oracle', [False, True])
def test_validation_of_a_training(tmp_path, tiny_model, oracle):
    batch = random_batch(5)
    batch['data_samples'][3].set_metainfo(dict(left_out=True))

    def loader(batch_size):
        return dict(
            batch_size=batch_size,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
            dataset=Clips(batch),
        )

    model = tiny_model()
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=loader(5),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.0)),
        val_dataloader=loader(2),
        val_cfg=dict(type='ReconstructionValLoop', oracle=oracle),
        val_evaluator=dict(
            type='VideoEvaluator', metrics=dict(type='ReconstructionMetric')
        ),
        default_scope='mmaction',
        default_hooks=dict(checkpoint=None),
    )
    runner.train()
    kept = {k: [v[i] for i in (0, 1, 2, 4)] for k, v in batch.items()}
    expected = score_reconstruction(model, [kept], oracle)
    logged = runner.message_hub.log_scalars
    assert logged['val/left_out'].current() == 1
    for name, value in expected.items():
        assert logged[f'val/{name}'].current() == pytest.approx(
            value, abs=1e-5
        )
    assert ('val/r2_pixel_oracle' in logged) == oracle
