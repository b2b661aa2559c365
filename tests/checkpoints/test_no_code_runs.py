# Copyright (c) MotionMAE contributors. All rights reserved.
"""No file runs code when it is loaded, through whichever door."""

import io
import json
import os
import pickle
import subprocess
import sys
import threading
import types
import uuid
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import mmaction
import mmengine
import numpy as np
import pytest
import torch
from conftest import ROOT
from helpers.processes import HUNG
from mmaction.datasets import AVADataset, PoseDataset
from mmengine._strategy import (
    BaseStrategy,
    ColossalAIStrategy,
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    SingleDeviceStrategy,
)
from mmengine.dataset import BaseDataset
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub
from mmengine.runner import CheckpointLoader, FlexibleRunner
from mmengine.runner import checkpoint as loaders
from torch import nn

from mmmotionmae.apis.features.files import read_features
from mmmotionmae.checkpoints import (
    CheckpointError,
    load_plain,
    trust_checkpoints,
)
from mmmotionmae.engine.loops.resumable_test_loop import read_batches
from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.progress import RecordFile

DEMO = ROOT / 'configs/demo'
FINETUNE = DEMO / 'vit-tiny-p8_scratch_1xb32-8x1x1-15e_moving-shapes.py'
REFUSED = r'\.mkdir\) that could run code.*--trust-checkpoint'
REFUSED_PLAIN = r'\.mkdir\): to read it could run code.*--trust-checkpoint'


class Intruder:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ('ran',)


@pytest.fixture(autouse=True)
def _nothing_runs(tmp_path, monkeypatch):
    """Work in a folder in which nothing appears that code has made."""
    monkeypatch.chdir(tmp_path)
    # A shell that was set up for older versions of MMEngine.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    yield
    assert not Path(tmp_path, 'ran').exists()


def bad_checkpoint(path, zipped=True, **content):
    content = content or dict(state_dict={}, meta=Intruder())
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return str(path)


def test_the_intruder_is_one(tmp_path):
    torch.load(bad_checkpoint('a.pth'), weights_only=False)
    Path('ran').rmdir()


# ------------------------------------------------- where files come from


class Backend:
    def get(self, name):
        return Path('hub/checkpoints/bad.pth').read_bytes()


class Model:
    name = 'bad.pth'

    def download(self, path):
        Path(path).write_bytes(Path('hub/checkpoints/bad.pth').read_bytes())


URL = 'https://example.org/bad.pth'  # it is in the cache already


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize(
    'source',
    [
        'hub/checkpoints/bad.pth',
        '~/bad.pth',
        URL,
        URL.replace('https', 'http'),
        'torchvision://bad',
        'modelzoo://bad',
        'open-mmlab://bad',
        'openmmlab://bad',
        'openmmlab://local',
        'mmcls://bad',
        'pavi://bad',
        's3://bucket/bad.pth',
        'petrel://bucket/bad.pth',
    ],
)
def test_sources(source, zipped, tmp_path, monkeypatch):
    bad_checkpoint('hub/checkpoints/bad.pth', zipped)
    bad_checkpoint('bad.pth', zipped)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    models = dict(bad=URL, local='bad.pth')
    for name in ('torchvision', 'external', 'mmcls'):
        name = f'get_{name}_models'
        monkeypatch.setattr(loaders, name, lambda: models)
    pavi = types.ModuleType('pavi')
    pavi.modelcloud = types.SimpleNamespace(get=lambda path: Model())
    monkeypatch.setitem(sys.modules, 'pavi', pavi)
    monkeypatch.setattr(loaders, 'get_file_backend', lambda *a, **k: Backend())

    with pytest.raises(CheckpointError, match=REFUSED) as error:
        CheckpointLoader.load_checkpoint(source, 'cpu')
    assert source in str(error.value)
    # Its loaders by themselves.
    with pytest.raises(pickle.UnpicklingError, match='mkdir'):
        CheckpointLoader._get_checkpoint_loader(source)(source, 'cpu')

    trust_checkpoints()
    CheckpointLoader.load_checkpoint(source, 'cpu')
    Path('ran').rmdir()


def test_a_loader_of_someone_else(monkeypatch):
    schemes = dict(CheckpointLoader._schemes)
    monkeypatch.setattr(CheckpointLoader, '_schemes', schemes)

    @CheckpointLoader.register_scheme(prefixes='mine://')
    def load(filename, map_location):
        return torch.load(filename.removeprefix('mine://'), weights_only=False)

    bad_checkpoint('bad.pth')
    with pytest.raises(CheckpointError, match=REFUSED):
        CheckpointLoader.load_checkpoint('mine://bad.pth')


@pytest.mark.filterwarnings('ignore:.torch.load. received a zip file')
def test_programs_are_no_checkpoints():
    torch.jit.script(nn.Linear(1, 1)).save('a.pth')
    with pytest.raises(CheckpointError, match='a.pth is a TorchScript prog'):
        CheckpointLoader.load_checkpoint('a.pth')


def test_calls_of_torch_load():
    """What leaves it open is safe, as in MMAction2's own data sets."""
    file = bad_checkpoint('a.pth')
    for load in (torch.load, torch.serialization.load):
        with pytest.raises(pickle.UnpicklingError):
            load(file)
        with pytest.raises(pickle.UnpicklingError):
            load(file, 'cpu', None, weights_only=True)
        # Its author has decided.
        load(file, weights_only=False)
        Path('ran').rmdir()
        load(file, None, pickle)
        Path('ran').rmdir()


def test_the_shell_may_forbid_trust(monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    trust_checkpoints()
    with pytest.raises(CheckpointError, match=r'mkdir.*_LOAD is set\.$'):
        CheckpointLoader.load_checkpoint(bad_checkpoint('a.pth'))


def test_threads_do_not_open_doors_for_each_other():
    """One ends its loading in the middle of that of another."""
    good, bad = 'good.pth', bad_checkpoint('bad.pth')
    torch.save(dict(a=torch.ones(1)), good)
    first_ended, loading, errors = threading.Event(), threading.Event(), []

    def wait(storage, location):
        loading.set()
        assert first_ended.wait(HUNG)
        return storage

    def load_all():
        class Patient(SingleDeviceStrategy):
            def load_checkpoint(self, filename, **kwargs):
                torch.load(good, wait, weights_only=False)
                return torch.load(filename, weights_only=False)

        try:
            Patient.__new__(Patient).load_checkpoint(bad)
        except CheckpointError as error:
            errors.append(error)

    thread = threading.Thread(target=load_all)
    thread.start()
    assert loading.wait(HUNG)
    CheckpointLoader.load_checkpoint(good)
    # Here nothing is loaded any more: the choice is the caller's again.
    torch.load(bad, weights_only=False)
    Path('ran').rmdir()
    first_ended.set()
    thread.join(HUNG)
    assert len(errors) == 1 and not thread.is_alive()


# ------------------------------------------------------------ strategies


class Engine:
    """DeepSpeed's engine, as far as its loading goes."""

    def load_checkpoint(self, folder, tag, **kwargs):
        path = f'{folder}/{tag}/mp_rank_00_model_states.pt'
        return path, torch.load(path, 'cpu', weights_only=False)

    def save_checkpoint(self, folder, tag, client_state, **kwargs):
        Path(folder, tag).mkdir(parents=True)
        path = f'{folder}/{tag}/mp_rank_00_model_states.pt'
        torch.save(client_state, path)


class Booster:
    """ColossalAI's, likewise."""

    def load_model(self, model, path):
        torch.load(f'{path}/pytorch_model.bin', weights_only=False)


class OwnStrategy(SingleDeviceStrategy):
    """Defined after MMEngine's."""

    def load_checkpoint(self, filename, **kwargs):
        return torch.load(filename, weights_only=False)


def make_strategy(cls, **attributes):
    """A strategy that can load, and need not be able to train."""
    strategy = cls.__new__(cls)
    model = nn.Linear(1, 1)
    defaults = dict(
        logger=mmengine.MMLogger.get_instance('a', log_level='ERROR'),
        model=model,
        dispatch_kwargs={},
        _randomness=dict(seed=1),
    )
    vars(strategy).update(defaults | attributes)
    return strategy


def deepspeed_strategy(monkeypatch):
    fake = types.SimpleNamespace(__version__='0.14.0')
    monkeypatch.setattr(
        sys.modules[DeepSpeedStrategy.__module__], 'deepspeed', fake
    )
    return make_strategy(
        DeepSpeedStrategy, model=Engine(), exclude_frozen_parameters=None
    )


def colossalai_strategy(monkeypatch):
    model = types.SimpleNamespace(model_wrapper=None)
    return make_strategy(ColossalAIStrategy, model=model, booster=Booster())


def fsdp_strategy(full):
    return make_strategy(FSDPStrategy, _is_full_state_dict=lambda: full)


STRATEGIES = {
    'SingleDevice': (
        lambda patch: make_strategy(SingleDeviceStrategy),
        'bad.pth',
    ),
    'DDP': (lambda patch: make_strategy(DDPStrategy), 'bad.pth'),
    'FSDP': (lambda patch: fsdp_strategy(True), 'bad.pth'),
    'FSDP_local': (lambda patch: fsdp_strategy(False), 'bad.pth/rank0.pth'),
    'DeepSpeed': (deepspeed_strategy, 'bad.pth/mp_rank_00_model_states.pt'),
    'ColossalAI': (colossalai_strategy, 'bad.pth/model/pytorch_model.bin'),
    'ColossalAI_meta': (
        lambda patch: make_strategy(
            ColossalAIStrategy,
            model=types.SimpleNamespace(model_wrapper=None),
            booster=types.SimpleNamespace(load_model=lambda model, path: None),
        ),
        'bad.pth/meta.pth',
    ),
    'own': (lambda patch: make_strategy(OwnStrategy), 'bad.pth'),
}


@pytest.mark.parametrize('method', ['load_checkpoint', 'resume'])
@pytest.mark.parametrize('name', STRATEGIES)
def test_strategies(name, method, monkeypatch):
    make, file = STRATEGIES[name]
    load, path = (
        getattr(make(monkeypatch), method),
        str(Path.cwd() / 'bad.pth'),
    )
    bad_checkpoint(file)
    with pytest.raises(CheckpointError, match=REFUSED) as error:
        load(path)
    assert str(error.value).startswith(path)
    trust_checkpoints()
    with suppress(Exception):  # it is of no use as a checkpoint
        load(path)
    Path('ran').rmdir()


@pytest.mark.parametrize('name', ['SingleDevice', 'DDP', 'DeepSpeed', 'own'])
@pytest.mark.parametrize('trust', [False, True])
def test_strategies_hand_on_no_config(name, trust, monkeypatch):
    """`FlexibleRunner.resume` runs it."""
    make, file = STRATEGIES[name]
    state = nn.Linear(1, 1).state_dict()
    meta = dict(config="import os; os.mkdir('ran')", epoch=1, iter=2)
    bad_checkpoint(file, state_dict=state, meta=meta)
    trust_checkpoints(trust)
    content = make(monkeypatch).resume(
        str(Path.cwd() / 'bad.pth'),
        resume_optimizer=False,
        resume_param_scheduler=False,
    )
    assert content['meta']['iter'] == 2
    assert ('config' in content['meta']) == trust


def test_deepspeed_reads_what_it_has_saved(monkeypatch):
    """A message hub holds objects, which DeepSpeed saves as they are."""
    strategy = deepspeed_strategy(monkeypatch)
    strategy._seed = 1
    hub = MessageHub.get_instance(uuid.uuid4().hex)
    for value in (1.5, 2.5):
        hub.update_scalar('loss', value)
    extra = dict(meta=dict(iter=2), message_hub=hub.state_dict())
    path = str(Path.cwd() / 'epoch_1.pth')
    strategy.save_checkpoint(filename=path, extra_ckpt=extra)
    content = strategy.resume(
        path, resume_optimizer=False, resume_param_scheduler=False
    )
    other = MessageHub.get_instance(uuid.uuid4().hex)
    other.load_state_dict(content['message_hub'])
    assert other.get_scalar('loss').data[0].tolist() == [1.5, 2.5]


def test_every_strategy_is_closed():
    """Also those of later versions."""
    strategies = [BaseStrategy]
    for strategy in strategies:
        strategies += strategy.__subclasses__()
        for method in ('load_checkpoint', 'resume'):
            function = getattr(strategy, method)
            module = function.__code__.co_filename
            assert module.endswith('checkpoints/strategies.py'), strategy
    assert len(strategies) > 6


class Net(mmengine.model.BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        loss = self.layer(inputs).mean()
        return dict(loss=loss) if mode == 'loss' else [loss]


def flexible_runner(**kwargs):
    return FlexibleRunner(
        Net(),
        work_dir='run',
        experiment_name=uuid.uuid4().hex,
        log_level='ERROR',
        train_dataloader=dict(
            batch_size=1,
            dataset=[torch.ones(1)] * 2,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        **kwargs,
    )


@pytest.mark.parametrize('name', ['SingleDeviceStrategy', 'OwnStrategy'])
def test_flexible_runner_resumes_and_runs_no_config(name):
    flexible_runner().train()
    content = torch.load('run/epoch_1.pth', weights_only=True)
    content['meta']['config'] = "import os; os.mkdir('ran')"
    bad_checkpoint('a.pth', **content)
    if name == 'OwnStrategy':
        mmengine.registry.STRATEGIES.register_module(module=OwnStrategy)
    runner = flexible_runner(resume='a.pth', strategy=dict(type=name))
    runner.train()
    assert (runner.epoch, runner.iter) == (2, 4)


# ----------------------------------------------------- lists, features, dumps


def bad_pickle(path, content=None):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(pickle.dumps(content or [Intruder()]))
    return str(path)


def a_base_dataset(path):
    BaseDataset(ann_file=path)


def proposals_of_ava(path):
    Path('list.csv').write_text('video,0902,0.1,0.2,0.3,0.4,1,0\n')
    AVADataset('list.csv', pipeline=[], exclude_file=None, proposal_file=path)


def a_pose_dataset(path):
    PoseDataset(path, pipeline=[])


def an_open_file(path):
    with open(path, 'rb') as file:
        mmengine.load(file, file_format='pkl')


@pytest.mark.parametrize(
    'load',
    [
        mmengine.load,
        mmengine.fileio.load,
        a_base_dataset,
        proposals_of_ava,
        a_pose_dataset,
        an_open_file,
    ],
)
def test_pickled_lists(load):
    path = bad_pickle('a.pkl')
    with pytest.raises(UsageError, match=REFUSED_PLAIN) as error:
        load(path)
    assert str(error.value).startswith('a.pkl')
    trust_checkpoints()
    with suppress(TypeError, AttributeError):  # it is no list of videos
        load(path)
    Path('ran').rmdir()


def tensor_that_runs():
    """PyTorch reads the bytes of a pickled tensor with its own unpickler."""
    buffer = io.BytesIO()
    torch.save(Intruder(), buffer, _use_new_zipfile_serialization=False)

    class Tensor:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (buffer.getvalue(),)

    return Tensor()


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_plain_data(protocol):
    values = dict(
        array=np.arange(6).reshape(2, 3)[:, ::-1],
        scalar=np.float32(2.5),
        strings=np.array(['x', 'yy']),
        objects=np.array(['x', None], object),
        record=np.ones(2, [('a', 'f4'), ('b', 'i8')]),
        date=np.array(['2020-01-01'], 'M8[D]'),
        tensor=torch.arange(5)[1:],
        half=torch.ones(2, dtype=torch.bfloat16),
        parameter=nn.Parameter(torch.ones(2)),
        dtype=torch.float16,
        size=torch.Size([1, 2]),
        sets=[{1}, frozenset({2})],
        dicts=[OrderedDict(a=1), {(1, 2): b'\x00\xff'}],
        numbers=[2**80, 1j, 0.1, True, None, slice(1, 2)],
    )
    data = pickle.dumps(values, protocol)
    found = load_plain(io.BytesIO(data), 'a.pkl')
    assert found.keys() == values.keys()
    for name, value in values.items():
        assert type(found[name]) is type(value)
        assert repr(found[name]) == repr(value)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    'name', ['intruder', 'tensor', 'eval', 'nested', 'module']
)
def test_pickles_that_run(name, protocol):
    content = dict(
        intruder=Intruder(),
        tensor=tensor_that_runs(),
        eval=eval,
        nested=OrderedDict(a=[np.array([Intruder()], object)]),
        module=torch.hub.load,
    )[name]
    data = pickle.dumps(content, protocol)
    with pytest.raises(UsageError, match='a.pkl is no pickle of plain data'):
        load_plain(io.BytesIO(data), 'a.pkl')


@pytest.mark.parametrize('ending', ['yaml', 'yml'])
def test_yaml(ending):
    path = f'a.{ending}'
    Path(path).write_text('a: !!python/object/apply:os.mkdir [ran]\n')
    with pytest.raises(UsageError, match=f'{path} is no YAML of plain data'):
        mmengine.load(path)
    with pytest.raises(UsageError, match='--trust-checkpoint'):
        mmengine.Config.fromfile(path)
    value = dict(a=(1, (2.5, 'x')), b=[None, True], c={'d': '1e3'})
    mmengine.dump(value, path)
    assert mmengine.load(path) == value
    Path(path).write_text('a: !!python/object/apply:os.mkdir [ran]\n')
    trust_checkpoints()
    mmengine.load(path)
    Path('ran').rmdir()


def test_feature_files():
    np.save('bad.npy', np.array([[Intruder()]]), allow_pickle=True)
    info = dict(labels=None, names=['a'], card={}, bad_videos={})
    Path('bad.json').write_text(json.dumps(info))
    with pytest.raises(UsageError, match='bad.npy holds no features.*object'):
        read_features('bad.npy')
    np.load('bad.npy', allow_pickle=True)
    Path('ran').rmdir()


def test_parts_of_a_dump():
    folder = Path('out.pkl.parts')
    folder.mkdir()
    with RecordFile(folder / '1-0.part') as file:
        for samples in ([dict(a=torch.ones(2))], [Intruder()]):
            data = pickle.dumps(samples)
            file.add(dict(indices=[0], bad={}), data)
    batches = read_batches(folder)
    assert torch.equal(next(batches).samples[0]['a'], torch.ones(2))
    with pytest.raises(UsageError, match=r'1-0\.part is no pickle of plain'):
        next(batches)


# ------------------------------------------------- files that are removed


def train_with_hook(work_dir, **runtime_info):
    """The hook at the start of a training that was resumed."""
    hook = CheckpointHook(save_best='a', rule='greater', max_keep_ckpts=1)
    message_hub = MessageHub.get_instance(uuid.uuid4().hex)
    message_hub.runtime_info.update(runtime_info)
    runner = types.SimpleNamespace(
        work_dir=str(work_dir),
        message_hub=message_hub,
        logger=mmengine.MMLogger.get_instance('a', log_level='ERROR'),
        epoch=1,
        iter=2,
        save_checkpoint=lambda out_dir, filename, **kwargs: Path(
            out_dir, filename
        ).write_text('new'),
    )
    hook.before_train(runner)
    return hook, runner


@pytest.mark.parametrize('best', ['home', 'home/best.pth', '..', '', 5])
def test_nothing_elsewhere_is_removed(best, tmp_path):
    """Such as the run that a work dir is a copy of."""
    work_dir = tmp_path / 'copy'
    for folder in ('home', 'copy'):
        Path(folder).mkdir()
        Path(folder, 'best.pth').write_text(folder)
        Path(folder, 'epoch_1.pth').write_text(folder)
    path = str(tmp_path / best) if isinstance(best, str) else best
    hook, runner = train_with_hook(
        work_dir, best_ckpt=path, keep_ckpt_ids=['../home/x', 1, 2]
    )
    hook._save_best_checkpoint(runner, dict(a=0.5))
    assert sorted(os.listdir('home')) == ['best.pth', 'epoch_1.pth']
    own = set(os.listdir(work_dir))
    # What is its own is removed, as always: an old best, and the oldest.
    assert ('best.pth' in own) == (best != 'home/best.pth')
    assert own - {'best.pth'} == {'best_a_epoch_1.pth', 'last_checkpoint'} or (
        own - {'best.pth'} == {'best_a_epoch_1.pth'}
    )
    assert hook.best_ckpt_path == str(work_dir / 'best_a_epoch_1.pth')


# -------------------------------------------------------------- processes


@pytest.mark.slow
@pytest.mark.parametrize('flexible', [False, True])
def test_mmaction2s_own_tool(flexible, run_env):
    """As `mim test mmaction` starts it: the config imports this package."""
    bad_checkpoint('bad.pth')
    tool = Path(mmaction.__file__).parent / '.mim/tools/test.py'
    options = ['--cfg-options', 'runner_type=FlexibleRunner']
    end = subprocess.run(
        [sys.executable, str(tool), str(FINETUNE), 'bad.pth']
        + options * flexible,
        env=dict(run_env, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1'),
        capture_output=True,
        text=True,
    )
    assert end.returncode
    assert 'bad.pth holds Python objects (posix.mkdir)' in end.stderr
