# Copyright (c) MotionMAE contributors. All rights reserved.
"""model-index.yml, the metafiles, the configs and the tables agree."""

import itertools
import re
from functools import cache

import pytest
import yaml
from conftest import ROOT
from describe import describe  # noqa: E402
from mmengine.config import Config

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
RECIPES = [(f, model) for f, model in MODELS if f != 'vos']
each_model = pytest.mark.parametrize(
    ('family', 'model'), MODELS, ids=[model['Name'] for _, model in MODELS]
)
each_recipe = pytest.mark.parametrize(
    ('family', 'model'), RECIPES, ids=[model['Name'] for _, model in RECIPES]
)


@cache
def rows_of(family):
    """The rows of a README's tables, by the config that they link to."""
    rows, head = {}, []
    text = (ROOT / 'configs' / family / 'README.md').read_text()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if not line.startswith('|'):
            head = []
        elif not head:
            head = cells
        elif links := re.findall(r'\]\(\./([\w.-]+)\.py\)', line):
            assert len(links) == 1
            assert links[0] not in rows, links
            rows[links[0]] = dict(zip(head, cells, strict=True))
    return rows


def test_every_config_is_in_a_metafile():
    """Except those of the demo."""
    configs = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / 'configs').rglob('*.py'))
        if not {'_base_', 'demo'} & set(path.parts)
    ]
    assert sorted(model['Config'] for _, model in MODELS) == configs
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
    """Nothing of this size has been run; others' results are references."""
    assert model['Config'] == f'configs/{family}/{model["Name"]}.py'
    for result in model['Results']:
        assert result['Metrics'] is None
        assert result['Dataset']
        assert result['Task']
    assert 'Weights' not in model


@each_recipe
def test_metadata(family, model):
    """What the config says, in the words of tools/analysis/describe.py."""
    # Of a data set of one's own it cannot know the size.
    report = describe(Config.fromfile(ROOT / model['Config']), videos=10_000)
    metadata = model['Metadata']
    assert metadata['Batch Size'] == report['batch']['clips']
    # Of clips in pre-training, of videos otherwise, as papers have it.
    pretrains = report['what']['kind'] == 'pre-training'
    epochs = report['length']['clip_epochs' if pretrains else 'epochs']
    assert metadata['Epochs'] == epochs
    gpus = report['batch']['gpus']
    assert metadata['Training Resources'].split()[0] == str(gpus)
    letter = re.search(r'vit-([sblh])', model['Name'])[1].upper()
    assert metadata['Architecture'] == f'ViT-{letter}/16'
    if family != 'detection':  # trained on more than it is tested on
        assert metadata['Training Data'] == model['Results'][0]['Dataset']
    params = report['parameters']['total']
    assert metadata['Parameters'] == f'{params / 1e6:.1f}M'
    # Multiply-adds, as papers count them.
    assert metadata['FLOPs'] == f'{report["flops"]["forward"] / 2e9:.1f}G'
    # What an 80 GB GPU has room for, by the estimate.
    assert report['memory']['total'] < 75e9


@each_recipe
def test_row(family, model):
    row = rows_of(family)[model['Name']]
    metadata = model['Metadata']
    (result,) = model['Results']
    assert row['epochs'] == str(metadata['Epochs'])
    assert row['clips a step'] == str(metadata['Batch Size'])
    assert row['GPUs'] == metadata['Training Resources'].split()[0]
    assert row['params'] == metadata['Parameters']
    assert row['FLOPs'] == metadata['FLOPs']
    assert row['backbone'].startswith(metadata['Architecture'])
    (ours,) = (key for key in row if key.endswith(', ours'))
    assert row[ours] == 'not run'
    (reference,) = (key for key in row if key.startswith('reference'))
    assert row[reference] == (result['Reference'] or '')


@pytest.mark.parametrize('family', FAMILIES)
def test_tables_name_no_other_configs(family):
    names = {m['Name'] for m in FAMILIES[family]['Models']}
    assert set(rows_of(family)) == (names if family != 'vos' else set())


def test_patterns_of_segmentation():
    """Its table has patterns: {a,b}-c for a-c and b-c."""
    text = (ROOT / 'configs/vos/README.md').read_text()
    named = set()
    for pattern in re.findall(r'`([\w{},.-]+)`', text):
        parts = re.split(r'\{([\w,-]+)\}', pattern)
        choices = [part.split(',') for part in parts]
        named |= {''.join(words) for words in itertools.product(*choices)}
    assert {m['Name'] for m in FAMILIES['vos']['Models']} <= named
