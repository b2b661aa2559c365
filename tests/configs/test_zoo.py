# Copyright (c) MotionMAE contributors. All rights reserved.
"""model-index.yml, the metafiles, the configs and the tables agree."""

import re
from functools import cache

import pytest
import yaml
from conftest import ROOT
from helpers.config_files import TINY
from helpers.described_networks import CONFIGS
from mmengine.config import Config
from studies.cells import read_records
from zoo_tables import with_tables

from mmmotionmae.apis import load_pretrained
from mmmotionmae.apis.batches import clips_per_rank_and_step
from mmmotionmae.apis.cost import describe, text
from mmmotionmae.checkpoints import shipped_weights

INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())
FAMILIES = {
    path.split('/')[1]: yaml.safe_load((ROOT / path).read_text())
    for path in INDEX['Import']
}
MODELS = [
    (family, model)
    for family, metafile in FAMILIES.items()
    for model in metafile['Models']
]
RECIPES = [(f, m) for f, m in MODELS if f not in ('vos', 'study')]
each_model = pytest.mark.parametrize(
    ('family', 'model'), MODELS, ids=[model['Name'] for _, model in MODELS]
)
each_recipe = pytest.mark.parametrize(
    ('family', 'model'), RECIPES, ids=[model['Name'] for _, model in RECIPES]
)


def test_every_config_is_in_a_metafile():
    """Except those of the demo, and of the study those without weights."""
    configs = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / 'configs').rglob('*.py'))
        if not {'_base_', *TINY} & set(path.relative_to(ROOT).parts)
    ]
    listed = [m['Config'] for family, m in MODELS if family != 'study']
    assert sorted(listed) == configs
    names = [model['Name'] for _, model in MODELS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('family', FAMILIES)
def test_collections(family):
    (collection,) = FAMILIES[family]['Collections']
    assert collection['README'] == f'configs/{family}/README.md'
    readme = (ROOT / collection['README']).read_text()
    assert collection['Paper']['URL'] in readme
    assert collection['Paper']['Title'] in readme
    for model in FAMILIES[family]['Models']:
        assert model['In Collection'] == collection['Name']


@each_model
def test_results_are_not_invented(family, model):
    """Others' results are references: of them, nothing has been run."""
    assert model['Config'] == f'configs/{family}/{model["Name"]}.py'
    for result in model['Results']:
        assert (result['Metrics'] is None) == (family != 'study')
        assert result['Dataset']
        assert result['Task']
    assert ('Weights' in model) == (family == 'study')


def test_results_of_the_study():
    """Those of its records; and each model has weights."""
    models = FAMILIES['study']['Models']
    assert [model['Weights'] for model in models] == shipped_weights()
    records = read_records(ROOT / 'docs/study/records.jsonl')
    for model in models:
        named = re.search(r'(\w+)_vit-tiny-p8-?([\w-]*?)_', model['Name'])
        arm = named[2] or named[1]
        hits = [
            records[f'finetune/g1/{arm}/seed0/hand/seed{seed}']['result']
            for seed in range(3)
        ]
        top1 = 100 * sum(result['top1'] for result in hits) / 3
        (result,) = model['Results']
        assert result['Metrics'] == {'Top 1 Accuracy': round(top1, 1)}
        parameters = sum(
            parameter.numel()
            for parameter in load_pretrained(model['Weights']).parameters()
        )
        assert model['Metadata']['Parameters'] == f'{parameters / 1e6:.1f}M'


@cache
def described(path):
    """What a config costs, with 10,000 videos of a data set of one's own."""
    return describe(Config.fromfile(path), videos=10_000)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_described(path):
    cfg, found = Config.fromfile(path), described(path)
    assert found['what']['trains'] == ('train_cfg' in cfg)
    lines = text(found)
    assert ('nothing is trained' in lines) != found['what']['trains']
    assert not [n for n in found['notes'] if n.startswith('The name says')]
    if found['what']['trains']:
        clips = found['batch']['gpus'] * clips_per_rank_and_step(cfg)
        assert found['batch']['clips'] == clips
        assert found['flops']['training'] > found['flops']['forward'] > 0


@each_recipe
def test_metadata(family, model):
    """What the config says, in the words of tools/analysis/describe.py."""
    report = described(ROOT / model['Config'])
    metadata = model['Metadata']
    assert metadata['Batch Size'] == report['batch']['clips']
    # Of clips in pre-training, of videos otherwise, as papers have it.
    pretrains = report['what']['kind'] == 'pre-training'
    epochs = report['length']['clip_epochs' if pretrains else 'epochs']
    assert metadata['Epochs'] == epochs
    gpus = report['batch']['gpus']
    assert metadata['Training Resources'].split()[0] == str(gpus)
    size, patch = re.search(r'vit-(\w)\w+-p(\d+)', model['Name']).groups()
    letter = size if size == 'g' else size.upper()
    assert metadata['Architecture'] == f'ViT-{letter}/{patch}'
    if family != 'detection':  # trained on more than it is tested on
        assert metadata['Training Data'] == model['Results'][0]['Dataset']
    params = report['parameters']['total']
    assert metadata['Parameters'] == f'{params / 1e6:.1f}M'
    # Multiply-adds, as papers count them.
    assert metadata['FLOPs'] == f'{report["flops"]["forward"] / 2e9:.1f}G'
    # What an 80 GB GPU has room for, by the estimate.
    assert report['memory']['total'] < 75e9


@each_recipe
def test_pretraining_and_views(family, model):
    cfg = Config.fromfile(ROOT / model['Config'])
    metadata = model['Metadata']
    share = re.search(r'-(\d+)percent', model['Name'])
    labels = f'{share[1]} % of labels' if share else None
    assert metadata.get('Labels') == labels
    init_cfg = cfg.model.backbone.get('init_cfg')
    if family == 'detection' or not init_cfg:
        assert (family == 'detection') == ('Pretrained' in metadata)
        return
    # The folder of the checkpoint is named after the config that makes it.
    source = init_cfg.checkpoint.split('/')[-2]
    algorithm = dict(motionmae='MotionMAE', videomae='VideoMAE')[
        source.split('_')[0]
    ]
    pretraining = next(m for _, m in RECIPES if m['Name'] == source)
    data, epochs = (
        pretraining['Metadata'][key] for key in ('Training Data', 'Epochs')
    )
    assert metadata['Pretrained'] == f'{algorithm}, {data}, {epochs} epochs'
    pipeline = {t.type: t for t in cfg.test_dataloader.dataset.pipeline}
    sampling = pipeline.get('SampleFrames') or pipeline['UniformSample']
    crops = 3 if 'ThreeCrop' in pipeline else 1
    assert metadata['Views'] == f'{sampling.num_clips}x{crops}'


# ------------------------------------------------------------------ tables


@pytest.mark.parametrize('family', FAMILIES)
def test_tables_are_those_of_the_metafiles(family):
    """tools/dev/zoo_tables.py changes nothing."""
    readme = (ROOT / 'configs' / family / 'README.md').read_text()
    assert with_tables(readme, FAMILIES[family]) == readme


def test_a_table():
    readme = 'a\n<!-- zoo: x_\\S+ -->\nold\n<!-- /zoo -->\nb\n'
    model = dict(
        Name='x_1',
        Metadata={'Architecture': 'ViT-B/16', 'Variant': 'odd', 'Epochs': 3},
        Results=[
            dict(
                Dataset='Something-Something V2',
                Task='Action Recognition',
                Metrics=None,
                Reference='others 7.0',
            )
        ],
    )
    text = with_tables(readme, dict(Models=[model]))
    assert text == (
        'a\n<!-- zoo: x_\\S+ -->\n'
        '| data | backbone | epochs | top-1, ours | reference top-1 | config |'
        '\n|---|---|---:|---|---|---|\n'
        '| SSv2 | ViT-B/16, odd | 3 | not run | others 7.0 | '
        '[config](./x_1.py) |\n<!-- /zoo -->\nb\n'
    )
    model['Results'][0]['Metrics'] = {'top-1': 7.5}
    assert ' | 7.5 | ' in with_tables(readme, dict(Models=[model]))
    other = dict(model, Name='y_1')
    for text, models, message in (
        (readme, [model, other], 'not in one table: y_1'),
        (readme * 2, [model], 'not in one table: x_1'),
        (readme, [other], 'no model is called x_'),
    ):
        with pytest.raises(ValueError, match=message):
            with_tables(text, dict(Models=models))
