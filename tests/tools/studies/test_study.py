# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/study.py`: plans, cells, what runs them, and the report."""

import multiprocessing
import os
import re
import time
from argparse import Namespace
from collections import Counter

import numpy as np
import pytest
import study as tool
from mmaction.registry import MODELS
from mmengine.registry import DefaultScope
from studies import cells as files
from studies import report as reports
from studies import running, steps
from studies.plan import Plan, clusters, draw, set_steps
from studies.steps import run_cell

from mmmotionmae.apis import UsageError
from mmmotionmae.apis.runner import load_config
from mmmotionmae.datasets.moving_shapes import write_dataset
from mmmotionmae.utils.errors import AnnotationError

PLAN = 'tools/studies/plans/small.py'
DOMAIN = dict(lists=['pretrain.txt'], held_out=['val.txt'])
TASK = dict(train='train.txt', test='val.txt', cluster='(video_[0-9])')


def write_lists(folder, sizes=(20, 12, 8)):
    for name, size in zip(('pretrain', 'train', 'val'), sizes, strict=True):
        lines = [f'{name}/video_{i:03}.mp4 {i % 4}\n' for i in range(size)]
        (folder / f'{name}.txt').write_text(''.join(lines))


def a_plan(folder, out=None, path=PLAN, **changes):
    cfg = load_config(path)
    cfg.domains, cfg.tasks = dict(g=DOMAIN), dict(t=TASK)
    cfg.segmentation, cfg.factors = {}, {}
    cfg.pretrain_seeds = cfg.finetune_seeds = (0, 1)
    cfg.update(changes)
    return Plan(cfg, folder, out or folder / 'out')


def by_name(plan):
    return {cell.name: cell for cell in plan.cells()}


@pytest.fixture
def lists(tmp_path):
    write_lists(tmp_path)
    return tmp_path


def test_cells_of_a_plan(lists):
    cells = by_name(a_plan(lists))
    assert Counter(cell.kind for cell in cells.values()) == dict(
        pretrain=6 * 2,
        reconstruct=6 * 2,
        linear=7 * 2,
        finetune=7 * 2 * 2,
        differences=1,
    )
    tuned = cells['finetune/g/videomae/seed1/t/seed0']
    assert tuned.parent == cells['pretrain/g/videomae/seed1']
    assert tuned.parent.cfg.model.head.motion_weight == 0
    assert cells['finetune/none/scratch/seed0/t/seed0'].parent is None
    # Equal in all but what the arm says.
    arms = [cells[f'pretrain/g/{a}/seed1'] for a in ('motion', 'motionmae')]
    assert arms[0].cfg.model.head.pop('pixel_weight') == 0
    assert arms[1].cfg.model.head.pop('pixel_weight') == 1
    assert arms[0].cfg.to_dict() == arms[1].cfg.to_dict()


def test_factors_have_seeds_of_their_own(lists):
    cells = by_name(
        a_plan(lists, factors=dict(f={'model.head.motion_weight': 4.0}))
    )
    names = [name for name in cells if name.startswith('pretrain/g/f/')]
    assert names == ['pretrain/g/f/seed0']


def test_factors_are_of_the_first_domain(lists):
    domains = dict(g=DOMAIN, h=DOMAIN)
    cells = by_name(a_plan(lists, domains=domains, factors=dict(f={})))
    assert 'pretrain/h/motion/seed1' in cells
    assert 'pretrain/g/f/seed0' in cells
    assert 'pretrain/h/f/seed0' not in cells


def test_domains_with_arms_and_seeds_of_their_own(lists):
    few = dict(DOMAIN, arms=['motion'], pretrain_seeds=(5,))
    cells = by_name(a_plan(lists, domains=dict(g=DOMAIN, h=few)))
    assert [name for name in cells if name.startswith('pretrain/h/')] == [
        'pretrain/h/motion/seed5'
    ]
    assert 'pretrain/g/videomae/seed1' in cells


def test_lists_of_a_running_study_stay(lists):
    """Another plan with the same names does not change what cells read."""
    name = 'finetune/g/motion/seed0/t/seed0'
    cell = by_name(a_plan(lists))[name]
    path = cell.cfg.train_dataloader.dataset.ann_file
    other = dict(TASK, train='val.txt')
    changed = by_name(a_plan(lists, tasks=dict(t=other)))[name]
    with open(path) as file:
        assert file.read() == cell.lists['train']
    with open(changed.cfg.train_dataloader.dataset.ann_file) as file:
        assert file.read() == changed.lists['train'] != cell.lists['train']


def test_steps_of_one_arm(lists):
    arms = dict(a={}, b=dict(steps=8000))
    cells = by_name(a_plan(lists, arms=arms))
    epochs = [
        cells[f'pretrain/g/{arm}/seed0'].cfg.train_cfg.max_epochs
        for arm in 'ab'
    ]
    assert epochs == [4000, 8000]  # all 20 videos are one batch


def test_every_factor_is_a_change_that_can_be_built(lists):
    factors = load_config('tools/studies/plans/factors.py').factors
    plan = a_plan(lists, factors=factors, pretrain_steps=4000)
    cells = by_name(plan)
    names = ['motionmae', 'videomae', *factors]
    prints = set()
    for name in names:
        cell = cells[f'pretrain/g/{name}/seed0']
        prints.add(cell.fingerprint())
        with DefaultScope.overwrite_default_scope('mmaction'):
            MODELS.build(cell.cfg.model)
    assert len(prints) == len(names)


def test_fingerprints(lists, tmp_path_factory):
    """They change with what results depend on, and with nothing else."""
    cells = by_name(a_plan(lists))
    prints = {cell.fingerprint() for cell in cells.values()}
    assert len(prints) == len(cells)

    other = tmp_path_factory.mktemp('elsewhere')
    write_lists(other)
    moved = by_name(a_plan(other, other / 'results'))
    assert {c.fingerprint() for c in moved.values()} == prints

    write_lists(other, (21, 12, 8))
    changed = by_name(a_plan(other))
    same = {
        name.split('/')[1]
        for name, cell in cells.items()
        if changed[name].fingerprint() == cell.fingerprint()
    }
    assert same == {'none', 't'}  # all that no pre-training is behind

    slower = by_name(a_plan(lists, finetune_steps=5))
    differ = {
        cell.kind
        for name, cell in slower.items()
        if cell.fingerprint() != cells[name].fingerprint()
    }
    # The linear probe has no use for steps; its config holds them.
    assert differ == {'finetune', 'linear', 'differences'}


@pytest.mark.parametrize(
    'name', ['finetune/g/motion/seed0/t', 'linear/g/motion/seed0/t']
)
def test_a_share_of_the_labels(lists, name):
    plan = a_plan(lists, tasks=dict(t=dict(TASK, fraction=0.5)))
    cells = by_name(plan)
    texts = [cells[f'{name}/seed{seed}'].lists['train'] for seed in (0, 1)]
    again = cells['differences/t/seed1'].lists['train']
    assert again == texts[1]
    assert texts[0] != texts[1]
    for text in texts:
        labels = [line.split()[1] for line in text.splitlines()]
        # 3 videos of each of 4 classes; half of 3, rounded, is 2.
        assert Counter(labels) == dict.fromkeys('0123', 2)


def test_draw():
    videos = [(str(i), 0) for i in range(100)] + [('last', 1)]
    drawn = draw(videos, 0.1, seed=3)
    assert Counter(label for _, label in drawn) == {0: 10, 1: 1}
    assert drawn == sorted(drawn, key=videos.index)
    assert draw(videos, 0.1, seed=3) == drawn != draw(videos, 0.1, seed=4)


@pytest.mark.parametrize(
    ('steps', 'videos', 'epochs', 'batch'),
    [(4000, 640, 400, 64), (4000, 669, 400, 64), (100, 20, 100, 20)],
)
def test_steps(steps, videos, epochs, batch):
    cfg = load_config(
        'configs/study/motionmae_vit-tiny-p8_1xb64-8x4x1-400e_study.py'
    )
    set_steps(cfg, steps, videos, 8)
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.train_dataloader.batch_size == batch
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.begin, cosine.end) == (0, epochs)
    assert warm_up.end == cosine.begin == round(epochs / 40)
    assert cfg.default_hooks.checkpoint.interval == epochs // 8


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(cluster='(episode)'), "'\\(episode\\)' for clusters finds none"),
        (dict(cluster='video'), 'needs a group'),
        (dict(cluster='('), "'\\(' for clusters is none: "),
        (dict(train='one.txt'), 'All videos of one.txt have the same label'),
        (dict(test='new.txt'), 'new.txt has the label 9, .* end with 3'),
        (dict(train='none.txt'), 'no list .*none.txt.*--data-root'),
        (dict(train='bare.txt'), 'bare.txt have no labels'),
    ],
)
def test_bad_plans(lists, changes, message):
    (lists / 'bare.txt').write_text('a.mp4\n')
    (lists / 'one.txt').write_text('video_1 0\nvideo_2 0\n')
    (lists / 'new.txt').write_text('video_1 9\n')
    plan = a_plan(lists, tasks=dict(t=dict(TASK, **changes)))
    with pytest.raises(UsageError, match=message):
        plan.cells()


def test_clips_are_refused(tmp_path):
    """They would be trained on as whole videos, with the label of a part."""
    (tmp_path / 'list.txt').write_text('a.mp4 0.0 1.0 0\na.mp4 2.0 3.0 1\n')
    with pytest.raises(AnnotationError, match=r'list\.txt.* lists clips'):
        a_plan(tmp_path).read('list.txt')


def test_paths_are_relative_to_the_list(tmp_path):
    (tmp_path / 'set').mkdir()
    (tmp_path / 'set/list.txt').write_text('a b.mp4 3\n')
    videos = a_plan(tmp_path).read('set/list.txt')
    assert videos == [('set/a b.mp4', 3)]


def test_groups_that_fit_in_part():
    videos = [('ep1.mp4', 0), ('b 2.mp4', 0)]
    assert clusters(videos, r'(ep\d)|(b \d)') == ['ep1_', '_b_2']


# What runs them


@pytest.fixture
def pretending(monkeypatch):
    """Cells that only pretend, in processes that start at once."""
    monkeypatch.setattr(
        running, 'CONTEXT', multiprocessing.get_context('fork')
    )
    monkeypatch.setattr(running, '_run', pretend)


def pretend(cell, root):
    """A cell that notes when its parent was done."""
    parent = cell.parent and files.read_record(cell.parent, root)
    name = parent and parent['name']
    result = dict(top1=0.5, parent=name, weights='some', curve=[])
    result |= dict(hits='01', labels='0 1', clusters='a b')
    return files.write_record(cell, root, result, 60)


def fail(cell, root):
    log = cell.folder(root) / 'log.txt'
    log.parent.mkdir(parents=True)
    log.write_text('first\nthe last words\n')
    raise ValueError('no luck')


def test_run_cells(lists, tmp_path, pretending):
    plan, said = a_plan(lists), []
    cells = plan.cells()
    some = [c for c in cells if 'scratch' in c.name]
    running.run_cells(some, tmp_path, 2, say=said.append)
    before = {c.name: files.read_record(c, tmp_path) for c in some}
    records = running.run_cells(cells, tmp_path, 2, say=said.append)
    assert records.keys() == {cell.name for cell in cells}
    for cell in cells:
        result = records[cell.name]['result']
        assert result['parent'] == (cell.parent and cell.parent.name)
    assert {n: records[n] for n in before} == before
    assert f'{len(cells)} cells, {len(some)} of them done already' in said
    assert said[-1].startswith(f'[{len(cells)}/{len(cells)}]')


def test_every_process_has_a_device(lists, tmp_path, pretending, monkeypatch):
    monkeypatch.setattr(running, '_run', tell_device)
    cells = [c for c in a_plan(lists).cells() if 'scratch' in c.name]
    records = running.run_cells(cells, tmp_path, 2, ['GPU-7', 'GPU-8'])
    devices = {r['result']['device'] for r in records.values()}
    assert devices == {'GPU-7', 'GPU-8'}
    # Others do not see it.
    assert 'GPU-7' not in os.environ.get('CUDA_VISIBLE_DEVICES', '')


def test_gpus_have_the_names_of_the_environment(monkeypatch):
    monkeypatch.setattr(tool.torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(tool.torch.cuda, 'device_count', lambda: 2)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert tool._gpus() == ['0', '1']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,GPU-5')
    assert tool._gpus() == ['3', 'GPU-5']
    monkeypatch.setattr(tool.torch.cuda, 'is_available', lambda: False)
    assert tool._gpus() == []


def test_the_larger_plan_can_be_built(lists):
    plan = a_plan(lists, path='tools/studies/plans/large.py')
    cells = by_name(plan)
    trained = cells['pretrain/g/motionmae/seed0'].cfg
    assert trained.train_cfg.max_epochs == 10_000  # of one batch each
    tuned = cells['finetune/g/motionmae/seed0/t/seed0'].cfg
    with DefaultScope.overwrite_default_scope('mmaction'):
        model, tuned = (MODELS.build(cfg.model) for cfg in (trained, tuned))
    own, other = (
        {k: v.shape for k, v in m.backbone.state_dict().items()}
        for m in (model, tuned)
    )
    assert len(own) > 100
    assert {k: own[k] for k in own if k.startswith('blocks')} == {
        k: other[k] for k in other if k.startswith('blocks')
    }


def tell_device(cell, root):
    device = os.environ['CUDA_VISIBLE_DEVICES']
    (root / device).touch()
    while len([*root.glob('GPU-*')]) < 2:  # for the other process
        time.sleep(0.01)
    return files.write_record(cell, root, dict(top1=0, device=device), 1)


def test_a_cell_that_fails(lists, tmp_path, pretending, monkeypatch):
    monkeypatch.setattr(running, '_run', fail)
    cell = by_name(a_plan(lists))['pretrain/g/motion/seed0']
    with pytest.raises(UsageError, match='motion/seed0 failed: no luck') as e:
        running.run_cells([cell], tmp_path, 1)
    assert 'the last words' in str(e.value)
    assert files.read_record(cell, tmp_path) is None


def test_a_cell_whose_parent_is_missing(lists, tmp_path, pretending):
    cell = by_name(a_plan(lists))['linear/g/motion/seed0/t']
    with pytest.raises(UsageError, match='waits for a cell'):
        running.run_cells([cell], tmp_path, 1)


# What they do


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes') / 'data'
    write_dataset(folder, 8, 16, 8)
    return folder


def test_every_kind_of_cell(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv('STUDY_CACHE', str(tmp_path / 'frames'))
    plan = a_plan(
        shapes,
        tmp_path,
        tasks=dict(t=dict(TASK, cluster='([0-9]+).mp4')),
        segmentation=dict(s='davis'),
        pretrain_steps=2,
        finetune_steps=2,
        pretrain_seeds=(0,),
        finetune_seeds=(0,),
    )
    cells = by_name(plan)
    wanted = [
        'pretrain/g/motionmae/seed0',
        'reconstruct/g/motionmae/seed0',
        'linear/g/motionmae/seed0/t',
        'finetune/g/motionmae/seed0/t/seed0',
        'vos/g/motionmae/seed0/s',
        'linear/none/scratch/seed0/t',
        'differences/t',
    ]
    results = {}
    for name in wanted:
        results[name] = run_cell(cells[name], tmp_path)
        files.write_record(cells[name], tmp_path, results[name], 1)
    pretrained = results[wanted[0]]
    assert pretrained['curve'][-1]['step'] == 2
    for mask in ('TubeMasking', 'RandomMasking'):
        assert {
            *('r2_pixel', 'r2_pixel_oracle'),
            *('r2_motion', 'r2_motion_oracle'),
        } <= results[wanted[1]][mask].keys()
    for name in (*wanted[2:4], *wanted[5:]):
        result = results[name]
        assert len(result['hits']) == len(result['labels'].split()) == 8
        assert len(result['clusters'].split()) == 8
        assert result['top1'] == result['hits'].count('1') / 8
    assert 0 < results[wanted[4]]['metrics']['J&F-Mean'] < 1
    # Once more, in another folder: the same, down to the last bit.
    again = tmp_path / 'again'
    assert run_cell(cells[wanted[0]], again) == pretrained
    assert list((tmp_path / 'frames').glob('*.npz'))


def test_one_cluster_is_left_out(shapes, tmp_path, monkeypatch):
    """Each is tested after training on all the others."""
    spec = dict(TASK, cluster='(.).mp4', leave_one_cluster_out=True)
    plan = a_plan(shapes, tmp_path, tasks=dict(t=spec))
    tested = []

    def probe(features, labels, others, number):
        assert not {*map(bytes, features)} & {*map(bytes, others)}
        assert len(labels) == len(features) == 24 - len(others)
        tested.append(len(others))
        scores = np.zeros((len(others), number))
        scores[:, 1] = 1
        return Namespace(scores=scores)

    monkeypatch.setattr(steps, 'linear_probe', probe)
    result = run_cell(by_name(plan)['differences/t'], tmp_path)
    names = [line.split() for line in result['labels'].split()]
    assert result['hits'] == ''.join(str(int(n == ['1'])) for n in names)
    groups = Counter(result['clusters'].split())
    assert tested == [groups[name] for name in sorted(groups)]
    assert sum(tested) == 24


def test_test_videos_that_cannot_be_read(lists):
    cell = by_name(a_plan(lists))['finetune/g/motion/seed0/t/seed0']
    with pytest.raises(UsageError, match='^1 of 8 test videos cannot be'):
        steps._answers(cell, [0] * 7)


# The report


def records_of(hits):
    """Records of made-up fine-tunings, by arm and seed."""
    records = {}
    for (arm, seed, run), row in hits.items():
        domain = 'none' if arm == 'scratch' else 'g'
        name = f'finetune/{domain}/{arm}/seed{seed}/hand/seed{run}'
        records[name] = dict(
            name=name,
            kind='finetune',
            seconds=60.0,
            result=dict(hits=row, clusters='a a b b', labels='0 1 0 1'),
        )
    return records


def test_tables(lists):
    records = records_of(
        {
            ('scratch', 0, 0): '0000',
            ('videomae', 0, 0): '1100',
            ('motionmae', 0, 0): '1111',
            ('motionmae', 1, 0): '1111',
        }
    )
    cfg = a_plan(lists).cfg
    cfg.tasks = dict(hand=dict(TASK, classes=['open', 'close']))
    tables = reports.Report(cfg, records).tables()
    assert '| none | scratch | 0 | 0 |' in tables['classes']
    assert '| g | videomae | 50 | 50 |' in tables['classes']
    assert (
        '| g | motionmae | 2 × 1 | 100.0 [100.0, 100.0] |'
        in (tables['finetune'])
    )
    assert '| none | scratch | 1 × 1 | 0.0 [0.0, 0.0] |' in tables['finetune']
    # 50 more, all in one of two clusters: between none and all.
    assert re.search(
        r'\| motionmae − videomae \| \+50.0 \[\+0.0, \+100.0\] \|',
        tables['differences'],
    )


def test_factors_of_other_plans_are_shown(lists):
    result = dict(TubeMasking=dict(r2_pixel=0.25))
    records = {
        name: dict(name=name, kind=kind, seconds=1.0, result=result)
        for kind in ('pretrain', 'reconstruct')
        for name in (f'{kind}/g/another/seed0',)
    }
    tables = reports.Report(a_plan(lists).cfg, records).tables()
    assert '| g | another | 0.250 | – |' in tables['factors']


def test_factors_show_the_masks_of_training(lists, tmp_path):
    """Whatever their order; records on disk have one of their own."""
    shares = dict(
        TubeMasking=dict(r2_pixel=0.25, r2_motion=0.5),
        RandomMasking=dict(r2_pixel=0.125, r2_motion=0.75),
    )
    name = 'reconstruct/g/motionmae/seed0'
    record = dict(name=name, kind='reconstruct', seconds=1.0, result=shares)
    files.write_records(tmp_path / 'records.jsonl', [record])
    read = files.read_records(tmp_path / 'records.jsonl')
    for records in (read, {name: record}):
        tables = reports.Report(a_plan(lists).cfg, records).tables()
        assert '| g | motionmae | 0.250 | 0.500 |' in tables['factors']
    for mask, row in dict(Random='0.125 | 0.750', Frame='– | –').items():
        other = 'reconstruct/g/other/seed0'
        change = {'train_dataloader.dataset.pipeline.7.type': f'{mask}Masking'}
        cfg = a_plan(lists, factors=dict(other=change)).cfg
        records = {other: dict(record, name=other), name: record}
        tables = reports.Report(cfg, records).tables()
        assert (f'| g | other | {row} |' in tables['factors']) == (
            mask == 'Random'
        )
        assert '| g | motionmae | 0.250 | 0.500 |' in tables['factors']


def test_other_targets_have_columns_of_their_own(lists):
    name = 'reconstruct/g/flow/seed0'
    result = dict(TubeMasking=dict(r2_pixel=0.5, r2_flow=0.25, r2_x_oracle=1))
    result['TubeMasking']['r2_flow_oracle'] = 0.125
    records = {
        name: dict(name=name, kind='reconstruct', seconds=1, result=result),
        name.replace('reconstruct', 'pretrain'): dict(
            name=name, kind='pretrain', seconds=1, result={}
        ),
    }
    tables = reports.Report(a_plan(lists).cfg, records).tables()
    head, _, row = tables['factors'].splitlines()
    assert head.endswith('| R² pixel | R² motion | R² flow |')
    assert row == '| g | flow | 0.500 | – | 0.250 |'
    assert '`r2_flow` | interpolation |' in tables['reconstruction']
    assert '| – | 0.250 | 0.125 |' in tables['reconstruction']


def test_factors_are_of_the_first_seed():
    hits = {('f', seed, 0): row for seed, row in ((10, '11'), (0, '10'))}
    outcome = reports.collect(records_of(hits), 'finetune')['g', 'f', 'hand']
    assert outcome.seeds == ['seed0', 'seed10']
    np.testing.assert_array_equal(outcome.values[:, 0, 0], 100)
    np.testing.assert_array_equal(outcome.values[:, 0, 1], [0, 100])


@pytest.mark.parametrize(('number', 'bold'), [(5, False), (6, True)])
def test_differences_of_few_clusters_are_not_bold(lists, number, bold):
    records = records_of(
        {('videomae', 0, 0): '0' * number, ('motionmae', 0, 0): '1' * number}
    )
    for record in records.values():
        record['result']['clusters'] = ' '.join(map(str, range(number)))
    cfg = a_plan(lists).cfg
    cfg.tasks = dict(hand=TASK)
    table = reports.Report(cfg, records).tables()['differences']
    assert '| motionmae − videomae | ' in table
    assert ('**+100.0 [+100.0, +100.0]**' in table) == bold


def test_incomplete_pretrainings_are_left_out():
    outcomes = reports.collect(
        records_of(
            {
                ('videomae', 0, 0): '1100',
                ('videomae', 0, 1): '1110',
                ('videomae', 1, 0): '0000',
            }
        ),
        'finetune',
    )
    values = outcomes['g', 'videomae', 'hand'].values
    np.testing.assert_array_equal(
        values, [[[100, 100, 0, 0], [100, 100, 100, 0]]]
    )


def test_draws_that_both_sides_have(lists):
    """Half-done studies compare the same draws of the labels, or nothing."""
    cfg = a_plan(lists).cfg
    cfg.tasks = dict(hand=dict(TASK, fraction=0.5))
    pixels = {('videomae', 0, 0): '1100', ('videomae', 0, 1): '0000'}
    for motion, row in (
        ({('motionmae', 0, 0): '1111', ('motionmae', 0, 2): '0000'}, '+50.0'),
        ({('motionmae', 0, 1): '1111'}, '+100.0'),
        ({('motionmae', 0, 2): '1111'}, None),
    ):
        tables = reports.Report(cfg, records_of(pixels | motion)).tables()
        start = f'| motionmae − videomae | {row}'
        assert (start in tables['differences']) == (row is not None)


def test_report_of_own_lists_with_whole_paths(
    lists, pretending, monkeypatch, capsys
):
    """It finds the cells that were run, with a GPU, too, and no data root."""
    monkeypatch.setattr(tool, '_gpus', lambda: ['0'])
    monkeypatch.setattr(
        tool, 'run_cells', lambda *a: running.run_cells(*a[:3], (), *a[4:])
    )
    argv = ['--out-dir', str(lists / 'out'), '--data-root', str(lists / 'no')]
    argv += ['--train-list', str(lists / 'train.txt')]
    argv += ['--test-list', str(lists / 'val.txt')]
    only = ['--only', 'linear/own/motion/seed0']
    for more in (only, ['--report']):
        tool.study(tool.parse_args(argv + more))
    assert '2 records; report in' in capsys.readouterr().out


def test_report_from_records_alone(tmp_path, capsys):
    """It needs neither data nor weights, and gives the same again."""
    folder = tmp_path / 'study'
    files.write_records(
        folder / tool.RECORDS,
        records_of({('videomae', 0, 0): '1100'}).values(),
    )
    argv = ['--report', str(folder), '--data-root', str(tmp_path / 'none')]
    tool.study(tool.parse_args(argv))
    page = folder / 'README.md'
    first = page.read_text()
    assert '<!-- table: finetune -->' in first
    assert (folder / 'results.png').stat().st_size > 1000
    page.write_text(first.replace('| --- |', '| lost |') + 'By hand.\n')
    tool.study(tool.parse_args(argv))
    assert page.read_text() == first + 'By hand.\n'
    assert '1 records; report in' in capsys.readouterr().out


def test_report_leaves_out_what_is_another_cell_now(lists, pretending, capsys):
    """Own lists have a folder of their own, and new lists new cells."""
    own = lists / 'out' / 'report' / tool.RECORDS
    command(lists, '--only', 'linear/own/motion/seed0')
    command(lists, '--report')
    before = files.read_records(own)
    assert before.keys() == {
        'pretrain/own/motion/seed0',
        'linear/own/motion/seed0/own',
    }
    (lists / 'val.txt').write_text('val/video_000.mp4 0\n')
    command(lists, '--report')
    kept = files.read_records(own)
    assert kept.keys() == {'pretrain/own/motion/seed0'}
    assert 'linear/own/motion/seed0/own is another' in capsys.readouterr().out


def test_bad_records(tmp_path):
    path = tmp_path / tool.RECORDS
    path.write_text('{"name": "a"}\n{}\n')
    with pytest.raises(UsageError, match='line 2 is no record'):
        files.read_records(path)


# The command line


def command(lists, *argv):
    tool.study(
        tool.parse_args(
            [
                *('--data-root', str(lists), '--out-dir', str(lists / 'out')),
                *('--train-list', 'train.txt', '--test-list', 'val.txt'),
                *argv,
            ]
        )
    )


def test_own_lists(lists, capsys):
    command(lists, '--list', '--only', 'finetune/own/motionmae/seed0')
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(state, name) for _, state, name in rows if len(_) == 12] == [
        ('-', 'pretrain/own/motionmae/seed0'),
        *(
            ('-', f'finetune/own/motionmae/seed0/own/seed{seed}')
            for seed in range(3)
        ),
    ]


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (['--only', 'nothing'], 'No cell has .nothing.'),
        (['--only', '('], 'no regular expression'),
        (['--rerun', 'pretrain/own/motion/seed0'], 'no cell that is done'),
    ],
)
def test_bad_commands(lists, argv, message):
    with pytest.raises(UsageError, match=message):
        command(lists, *argv)


def test_rerun(lists, pretending, monkeypatch, capsys):
    """The same result is told; another one is an error that names it."""
    command(lists, '--only', 'linear/own/motion/seed0')
    name = 'linear/own/motion/seed0/own'
    command(lists, '--rerun', name)
    assert f'{name} gives the same result once more' in capsys.readouterr().out
    monkeypatch.setattr(running, '_run', pretend_otherwise)
    # Then what it starts from, which was linked to, and it again.
    for name in (
        'pretrain/own/motion/seed0',
        'linear/own/motion/seed0/own',
        'pretrain/own/motion/seed0',
    ):
        with pytest.raises(UsageError, match='top1: 0.5 -> 0.25'):
            command(lists, '--rerun', name)


def pretend_otherwise(cell, root):
    result = dict(top1=0.25, weights='other')
    return files.write_record(cell, root, result, 1)
