# Copyright (c) MotionMAE contributors. All rights reserved.
"""Tests over sequences: what is kept, what is done again, what is said."""

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY_BACKBONE
from helpers.processes import HUNG
from mmaction.registry import MODELS

import mmmotionmae
from mmmotionmae.apis import UsageError
from mmmotionmae.datasets import moving_shapes
from mmmotionmae.models import LabelPropagation
from mmmotionmae.utils.provenance import hash_weights

spec = importlib.util.spec_from_file_location('tool', ROOT / 'tools/test.py')
TOOL = importlib.util.module_from_spec(spec)
spec.loader.exec_module(TOOL)

PIXELS = dict(
    type='PixelPropagation', backbone=dict(type='RawPixels', patch_size=4)
)
ENCODER = dict(type='LabelPropagation', backbone=TINY_BACKBONE)
PICTURES = ['.png', '.mp4', *(f'/0000{t}.png' for t in range(4))]
SEQUENCES = ['shapes-00', 'shapes-01', 'shapes-02']


@MODELS.register_module()
class PixelPropagation(LabelPropagation):
    """Remembers what it has labelled, and may fail at a sequence."""

    labelled = []
    fail_at = None

    def predict(self, inputs, data_samples):
        for video, sample in zip(inputs, data_samples, strict=True):
            if sample.sequence == self.fail_at:
                raise RuntimeError('the power is gone')
            if video is not None:
                self.labelled.append(sample.sequence)
        return super().predict(inputs, data_samples)


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('shapes') / 'data'
    moving_shapes.write_dataset(
        root,
        *(0, 0, 0),
        num_davis=3,
        davis_frames=4,
        davis_size=32,
        disable=True,
    )
    return root / 'davis'


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PixelPropagation, 'labelled', [])


@pytest.fixture
def run(tmp_path, data_root):
    """Run `tools/test.py`, with a config made of these parts."""

    def run(*argv, model=PIXELS, main=False, **parts):
        cfg = dict(
            default_scope='mmaction',
            custom_imports=dict(imports=['mmmotionmae']),
            # Runs of the same second would share one log.
            experiment_name=uuid.uuid4().hex,
            work_dir='run',
            randomness=dict(seed=0),
            model=model,
            test_dataloader=dict(
                batch_size=1,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(
                    type='DAVISDataset',
                    data_root=str(data_root),
                    serialize_data=False,  # which takes half a second
                    pipeline=[
                        dict(type='LoadSequence', size=(32, 32)),
                        dict(type='LoadMasks'),
                        dict(type='PackSequence'),
                    ],
                ),
            ),
            test_evaluator=dict(type='DAVISMetric', num_workers=0),
            test_cfg=dict(),
            default_hooks=dict(
                results=dict(type='SequenceResultsHook'),
                visualization=dict(type='SequenceVisualizationHook'),
            ),
        )
        cfg.update(parts)
        for log in Path('run').glob('*/*.log'):  # of an earlier run
            log.unlink()
        path = tmp_path / 'config.py'
        path.write_text(''.join(f'{k} = {v!r}\n' for k, v in cfg.items()))
        argv = [str(path), *map(str, argv)]
        if not main:
            return TOOL.test(TOOL.parse_args(argv))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', ['test.py', *argv])
            return TOOL.main()

    return run


def last_log():
    (log,) = Path('run').glob('*/*.log')
    return log.read_text()


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob('*'))
        if path.is_file()
    }


def save(path, value):
    """A checkpoint whose weights are all `value`."""
    model = MODELS.build(ENCODER)
    state = {
        k: torch.full_like(v, value) for k, v in model.state_dict().items()
    }
    torch.save(dict(state_dict=state, meta={}), path)
    return path


# ------------------------------------------------------------------ resume


def test_an_interrupted_test_goes_on(run, monkeypatch):
    table = run('--work-dir', 'whole')
    whole = files_of('whole/results')
    assert PixelPropagation.labelled == SEQUENCES
    PixelPropagation.labelled.clear()

    monkeypatch.setattr(PixelPropagation, 'fail_at', 'shapes-02')
    with pytest.raises(RuntimeError, match='the power is gone'):
        run()
    assert PixelPropagation.labelled == SEQUENCES[:2]
    monkeypatch.setattr(PixelPropagation, 'fail_at', None)
    assert run() == table
    assert PixelPropagation.labelled == SEQUENCES
    log = last_log()
    assert 'Going on: 2 of 3 sequences are done.' in log
    assert 'shapes-02: 4 frames' in log and 'shapes-01: 4' not in log
    assert re.search(r'\b4 frames in [\d.]+ s: [\d.]+ frames/s', log)

    # All is done: the table again, without the model.
    PixelPropagation.labelled.clear()
    assert run() == table and not PixelPropagation.labelled
    log = last_log()
    assert 'Going on: 3 of 3' in log and 'frames/s' not in log
    resumed = files_of('run/results')
    assert resumed.keys() == whole.keys()
    for name in whole:
        assert name == 'card.json' or resumed[name] == whole[name]


def test_only_what_is_missing_is_done(run):
    table = run()
    before = files_of('run/results/masks')
    (victim,) = Path('run/results').rglob('shapes-01')
    shutil.rmtree(victim)
    PixelPropagation.labelled.clear()
    assert run() == table
    assert PixelPropagation.labelled == ['shapes-01']
    assert files_of('run/results/masks') == before and len(before) == 12


def test_each_sequence_gets_a_line_without_a_terminal(run, capfd):
    run()
    log = last_log()
    lines = re.findall(r'\[(\d)/3\] (\S+): 4 frames, [\d.]+ frames/s', log)
    assert lines == [(str(i + 1), name) for i, name in enumerate(SEQUENCES)]
    assert re.search(r'\b12 frames in [\d.]+ s: [\d.]+ frames/s', log)
    assert 'Going on' not in log
    assert '\r' not in log + ''.join(capfd.readouterr())


def test_a_terminal_shows_a_bar_over_frames(run, monkeypatch):
    class Terminal:
        text = ''

        def isatty(self):
            return True

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    monkeypatch.setattr(sys, 'stderr', Terminal())
    run('--cfg-options', 'test_dataloader.dataset.sequences=[shapes-01]')
    # frames/s, or s/ frames where that is less than one.
    assert re.search(r' 4/4 \[.* frames.*, shapes-01\]', sys.stderr.text)
    assert '4 frames, ' not in last_log()

    # An error gets a line of its own.
    monkeypatch.setattr(sys, 'stderr', Terminal())
    monkeypatch.setattr(PixelPropagation, 'fail_at', 'shapes-02')
    with pytest.raises(RuntimeError):
        run('--work-dir', 'other')
    assert re.search(r' 8/12 \[.*, shapes-02\]\n$', sys.stderr.text)


def test_a_dump_warns_of_what_it_does_not_get(run):
    run()
    run('--dump', 'out.pkl')
    assert 'DumpResults gets no predictions' in last_log()


# -------------------------------------------------------------------- card


def test_the_card_says_what_made_the_results(run, tmp_path):
    checkpoint = save(tmp_path / 'ones.pth', 1.0)
    run(checkpoint, model=ENCODER)
    card = json.loads(Path('run/results/card.json').read_text())
    expected = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert card['checkpoint'] == dict(path=str(checkpoint), sha256=expected)
    assert card['seed'] == 0
    assert card['versions']['torch'] == torch.__version__
    assert card['versions']['mmmotionmae'] == mmmotionmae.__version__
    fingerprint = card['fingerprint']
    model = MODELS.build(ENCODER)
    protocol = json.loads(json.dumps(model.protocol))
    assert fingerprint['protocol'] == protocol
    assert fingerprint['model']['backbone']['embed_dims'] == 32
    assert fingerprint['dataset']['type'] == 'DAVISDataset'
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    assert fingerprint['weights'] == hash_weights(model)


def test_the_card_without_a_checkpoint(run):
    run()
    card = json.loads(Path('run/results/card.json').read_text())
    assert card['checkpoint'] == dict(path=None, sha256=None)
    assert card['fingerprint']['weights'] == hashlib.sha256().hexdigest()


def test_hash_of_weights():
    layer = torch.nn.Linear(3, 2)
    first = hash_weights(layer)
    layer.weight.data[1, 2] += 1e-6
    assert hash_weights(layer) != first
    layer.weight.data[1, 2] = 0
    layer.bias.data.zero_()
    second = hash_weights(layer)
    layer.weight.data[1, 2] = -0.0  # another number to the last bit
    assert hash_weights(layer) != second
    assert hash_weights(layer.bfloat16()) != second
    assert (
        len(
            {
                hash_weights(torch.nn.Linear(a, b, False).apply(_zero))
                for a, b in [(6, 1), (1, 6), (2, 3)]
            }
        )
        == 3
    )
    # 0-dimensional and strided tensors.
    norm = torch.nn.BatchNorm1d(2)
    assert hash_weights(norm) == hash_weights(torch.nn.BatchNorm1d(2))
    layer = torch.nn.Linear(3, 2)
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(layer.state_dict())
    other.weight.data = other.weight.data.t().contiguous().t()
    assert hash_weights(other) == hash_weights(layer)


def _zero(layer):
    layer.weight.data.zero_()


# ------------------------------------------------- results of something else


def test_other_weights_are_refused_and_set_aside(run, tmp_path, capfd):
    ones = save(tmp_path / 'ones.pth', 1.0)
    twos = save(tmp_path / 'twos.pth', 2.0)
    run(ones, model=ENCODER)
    before = files_of('run/results')
    assert run(twos, model=ENCODER, main=True) == 2
    (error,) = re.findall('^error: .*', capfd.readouterr().err, re.M)
    hashes = [json.loads(before['card.json'])['fingerprint']['weights']]
    assert 'run/results holds the results of something else' in error
    assert f'weights: {hashes[0][:12]}...{hashes[0][-12:]} -> ' in error
    assert 'ones.pth -> ' in error and 'twos.pth' in error
    assert '--work-dir' in error and '--overwrite' in error
    assert files_of('run/results') == before

    # The same weights elsewhere are the same.
    (tmp_path / 'again.pth').write_bytes(ones.read_bytes())
    run(tmp_path / 'again.pth', model=ENCODER)
    assert 'Going on: 3 of 3' in last_log()

    run(twos, '--overwrite', model=ENCODER)
    assert 'Going on' not in last_log()
    (aside,) = Path('run').glob('results-*')
    assert re.fullmatch(r'results-\d{8}-\d{6}', aside.name)
    assert files_of(aside) == before
    here = Path.cwd()
    expected = f'What was in {here}/run/results is now in {here / aside}'
    assert expected in last_log()
    card = json.loads(Path('run/results/card.json').read_text())
    assert card['checkpoint']['path'] == str(twos)
    # Two that would get the same name.
    run(ones, '--overwrite', model=ENCODER)
    assert len(list(Path('run').glob('results-*'))) == 2


def test_other_settings_are_refused(run):
    run()
    settings = {
        'model.topk=7': r'propagation\.topk: 5 -> 7; model.topk: None -> 7',
        'test_dataloader.dataset.pipeline.0.size="(32,64)"': (
            r'dataset\.pipeline\.0\.size\.1: 32 -> 64'
        ),
        'test_cfg.fp16=True': r'test_cfg\.fp16: None -> True',
    }
    for setting, text in settings.items():
        with pytest.raises(UsageError, match=text):
            run('--cfg-options', setting)
    # None of these changes a result.
    run(randomness=dict(seed=5))
    run(
        '--cfg-options',
        'test_evaluator.collect_device=cpu',
        'model.max_affinities=1000',
        'test_dataloader.dataset.sequences=[shapes-01]',
    )
    assert 'Going on: 1 of 1' in last_log()


def test_many_differences_are_cut_short(run):
    run()
    with pytest.raises(UsageError, match=r'; and \d+ more\)'):
        run('none', model=ENCODER)


def test_random_weights_of_another_seed_are_refused(run):
    table = run('none', model=ENCODER)
    assert run('none', model=ENCODER) == table
    assert 'Going on: 3 of 3' in last_log()
    with pytest.raises(UsageError, match=r'weights: .*; seed: 0 -> 1'):
        run('none', model=ENCODER, randomness=dict(seed=1))


def test_results_without_a_card_are_refused(run):
    run()
    Path('run/results/card.json').unlink()
    with pytest.raises(UsageError, match='no card.json that says'):
        run()
    run('--overwrite')


def test_results_of_the_metric_own_folder(run):
    metric = dict(type='DAVISMetric', num_workers=0, out_dir='mine')
    run(test_evaluator=metric)
    assert Path('mine/card.json').exists()
    assert not Path('run/results').exists()
    run(test_evaluator=metric)
    assert 'Going on: 3 of 3' in last_log()


# ------------------------------------------------------------- no checkpoint


def test_weights_need_a_checkpoint_or_none(run, capfd):
    assert run(model=ENCODER, main=True) == 2
    (error,) = re.findall('^error: .*', capfd.readouterr().err, re.M)
    assert 'name a checkpoint, or "none"' in error
    assert not Path('run/results').exists()


def test_none_sets_up_the_weights_of_the_config(run, tmp_path):
    checkpoint = save(tmp_path / 'ones.pth', 1.0)
    run(checkpoint, '--work-dir', 'a', model=ENCODER)
    backbone = dict(
        TINY_BACKBONE,
        init_cfg=dict(
            type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.'
        ),
    )
    run('none', '--work-dir', 'b', model=dict(ENCODER, backbone=backbone))
    run('none', '--work-dir', 'c', model=ENCODER, load_from=str(checkpoint))
    run('none', '--work-dir', 'd', model=ENCODER)
    weights = [
        json.loads(Path(name, 'results/card.json').read_text())['fingerprint'][
            'weights'
        ]
        for name in 'abcd'
    ]
    assert weights[0] == weights[1] == weights[2] != weights[3]


# ----------------------------------------------------------------- pictures


def test_show_dir_draws_new_and_finished_sequences(run, monkeypatch):
    monkeypatch.setattr(PixelPropagation, 'fail_at', 'shapes-02')
    with pytest.raises(RuntimeError):
        run('--show-dir', 'new')
    before = files_of('new')
    names = [f'shapes-0{i}{kind}' for i in (0, 1) for kind in PICTURES]
    assert sorted(before) == sorted(names)
    monkeypatch.setattr(PixelPropagation, 'fail_at', None)
    run('--show-dir', 'all', '--interval', 1)
    drawn = files_of('all')
    assert len(drawn) == 3 * len(PICTURES)
    for name, content in before.items():
        if name.endswith('.png'):  # threads of the encoder vary a video
            assert drawn[name] == content
    run('--show-dir', 'some', '--interval', 2)
    assert {name[:9] for name in files_of('some')} == {
        'shapes-00',
        'shapes-02',
    }
    assert files_of('some')['shapes-02.png'] == drawn['shapes-02.png']


def test_nothing_is_drawn_unless_asked_for(run):
    run('--cfg-options', 'default_hooks.visualization.out_dir=pictures')
    assert not Path('pictures').exists()


def test_show_needs_a_screen(run, monkeypatch):
    monkeypatch.setattr('matplotlib.pyplot.get_backend', lambda: 'agg')
    with pytest.raises(UsageError, match='--show needs a screen'):
        run('--show')
    assert not PixelPropagation.labelled


# ---------------------------------------------------------------- bad files


@pytest.mark.parametrize('num_workers', [0, 1])
@pytest.mark.parametrize('number', [0, 1], ids=['first mask', 'ground truth'])
def test_a_bad_file_is_one_line(
    run, capfd, data_root, tmp_path, num_workers, number
):
    root = tmp_path / 'data'
    shutil.copytree(data_root, root)
    mask = root / f'Annotations/480p/shapes-01/0000{number}.png'
    mask.write_bytes(b'no mask')
    code = run(
        '--cfg-options',
        f'test_dataloader.num_workers={num_workers}',
        f'test_evaluator.num_workers={num_workers}',
        f'test_dataloader.dataset.data_root={root}',
        main=True,
    )
    assert code == 2
    err = capfd.readouterr().err
    (error,) = re.findall('^error: .*', err, re.M)
    assert f'{mask} cannot be read as PNG' in error
    assert 'Traceback' not in err
    assert err.strip().splitlines()[-1] == error


# -------------------------------------------------------- several processes


@pytest.mark.slow
def test_two_processes_share_results(run, run_env, tmp_path):
    table = run('none', model=ENCODER)
    # Three sequences for two processes: one is labelled twice.
    command = [ROOT / 'tools/dist_test.sh', 'config.py', 'none', '2']
    command += ['--work-dir', 'dist']
    path = f'{Path(sys.executable).parent}:{run_env["PATH"]}'
    env = dict(run_env, PATH=path, PORT='')  # any port

    def start(*argv):
        result = subprocess.run(
            [*command, *argv],
            capture_output=True,
            text=True,
            env=env,
            timeout=HUNG,
        )
        return result.returncode, result.stdout + result.stderr

    code, output = start()
    assert code == 0, output
    assert files_of('dist/results/masks') == files_of('run/results/masks')
    before = files_of('dist/results')
    shutil.rmtree('dist/results/masks/shapes-01')
    code, output = start()
    assert code == 0, output
    assert 'Going on: 2 of 3' in output
    assert re.search(r'\b4 frames in ', output)
    assert f'davis/J-Mean: {table["davis/J-Mean"]:.4f}' in output
    after = files_of('dist/results')
    assert after == before  # the card, too
    code, output = start('--cfg-options', 'randomness.seed=1')
    # Each says so, unless the launcher ends it first.
    assert code != 0 and 'seed: 0 -> 1' in output
