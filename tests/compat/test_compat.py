# Copyright (c) MotionMAE contributors. All rights reserved.
"""One test or more for each thing that `mmmotionmae.compat` patches."""

import argparse
import importlib.util
import io
import os
import pickle
import pkgutil
import resource
import subprocess
import sys
import types
import uuid
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import mmaction
import mmengine.config.config
import mmengine.hub.hub
import mmengine.model.utils
import mmengine.optim.optimizer.default_constructor
import mmengine.utils.dl_utils.misc
import mmengine.utils.package_utils
import numpy as np
import pytest
import torch
from conftest import TINY_BACKBONE
from helpers.processes import HUNG
from mmaction.models.backbones.vit_mae import Attention
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmaction.utils import dependency
from mmengine.config import ConfigDict, DictAction
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
)
from mmengine.device import get_device
from mmengine.dist import init_dist
from mmengine.fileio import LocalBackend
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel, BaseModule, MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import (
    CheckpointLoader,
    FlexibleRunner,
    Runner,
    save_checkpoint,
)
from torch import nn

from mmmotionmae.checkpoints import trust_checkpoints
from mmmotionmae.compat import packages, running, to_plain, waiting
from mmmotionmae.utils.errors import (
    CheckpointError,
    UsageError,
    UsageTypeError,
)
from mmmotionmae.utils.seeding import SampleIndex

ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'configs/demo'
PRETRAIN = DEMO / 'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py'
DRN = 'mmaction.models.localizers.drn'
on_cpu = pytest.mark.skipif(get_device() != 'cpu', reason='patches CPUs only')


@pytest.fixture(autouse=True)
def _trust_nothing():
    trust_checkpoints(False)
    yield
    trust_checkpoints(False)


@pytest.fixture
def messages(monkeypatch):
    """What `compat` logs."""
    logged = []
    for module in (mmengine.logging, packages):
        monkeypatch.setattr(
            module, 'print_log', lambda text, **kwargs: logged.append(text)
        )
    return logged


def hide_packages(monkeypatch, **found):
    """Make `find_spec` say what is installed: name=True or False."""
    find_spec = importlib.util.find_spec

    def fake(name, package=None):
        if name in found:
            return object() if found[name] else None
        return find_spec(name, package)

    monkeypatch.setattr(importlib.util, 'find_spec', fake)


def run_python(code, *args):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code, *map(str, args)],
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1'),
        timeout=HUNG,
    )


# --------------------------------------------------------------- importing


def test_drn_stand_in_raises_when_built():
    if (Path(mmaction.__file__).parent / 'models/localizers/drn').is_dir():
        pytest.skip('this MMAction2 has the DRN localizer')
    # The import alone fails without the stand-in.
    from mmaction.models import localizers

    with pytest.raises(ImportError, match='lacks the DRN localizer') as error:
        MODELS.build(dict(type='DRN', vocab_size=3))
    assert 'from source' in str(error.value)
    assert localizers.DRN.__module__ == 'mmmotionmae.compat.packages'


@pytest.mark.parametrize('folder_exists', [True, False])
def test_drn_folder_wins_over_the_stand_in(
    tmp_path, monkeypatch, folder_exists
):
    for name in (DRN, f'{DRN}.drn'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delitem(MODELS.module_dict, 'DRN', raising=False)
    monkeypatch.setattr(mmaction, '__file__', str(tmp_path / '__init__.py'))
    if folder_exists:
        (tmp_path / 'models/localizers/drn').mkdir(parents=True)
    packages.stand_in_for_drn()
    assert (DRN in sys.modules) is not folder_exists
    assert ('DRN' in MODELS.module_dict) is not folder_exists
    sys.modules.pop(DRN, None), sys.modules.pop(f'{DRN}.drn', None)
    MODELS.module_dict.pop('DRN', None)


def fake_transformers(monkeypatch, *names):
    package = types.ModuleType('transformers')
    package.modeling_utils = types.SimpleNamespace(**dict.fromkeys(names))
    monkeypatch.setitem(sys.modules, 'transformers', package)


@pytest.mark.parametrize(
    'timm,torchvision,functions,reason',
    [
        (False, True, ['apply_chunking_to_forward'], 'timm is not installed'),
        (True, False, ['apply_chunking_to_forward'], 'needs torchvision'),
        (True, True, [], 'too new'),
        (True, True, ['apply_chunking_to_forward'], None),
    ],
)
def test_multimodal_is_off_where_it_is_broken(
    monkeypatch, messages, timm, torchvision, functions, reason
):
    monkeypatch.setattr(dependency, 'WITH_MULTIMODAL', True)
    hide_packages(monkeypatch, timm=timm, torchvision=torchvision)
    fake_transformers(monkeypatch, *functions)
    packages.switch_off_broken_multimodal()
    assert dependency.WITH_MULTIMODAL is (reason is None)
    assert len(messages) == (reason is not None)
    assert all(reason in message for message in messages)


def test_multimodal_stays_off_without_a_word(monkeypatch, messages):
    monkeypatch.setattr(dependency, 'WITH_MULTIMODAL', False)
    hide_packages(monkeypatch, timm=False)
    packages.switch_off_broken_multimodal()
    assert dependency.WITH_MULTIMODAL is False
    assert messages == []


@pytest.fixture
def without_pkg_resources(monkeypatch):
    """The patch of MMEngine's package functions, undone afterwards."""
    owners = (
        mmengine.utils,
        mmengine.utils.package_utils,
        mmengine.config.config,
        mmengine.hub.hub,
    )
    for owner in owners:
        for name in ('is_installed', 'get_installed_path'):
            if hasattr(owner, name):
                monkeypatch.setattr(owner, name, getattr(owner, name))
    hide_packages(monkeypatch, pkg_resources=False)
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    packages.do_without_pkg_resources()


def test_package_functions_without_pkg_resources(without_pkg_resources):
    for owner in (mmengine.utils, mmengine.config.config):
        assert owner.is_installed('mmaction')
        assert owner.is_installed('mmcv-lite')  # a distribution, no module
        assert not owner.is_installed('nonexistent_pkg')
    for owner in (mmengine.utils, mmengine.config.config, mmengine.hub.hub):
        folder = Path(mmaction.__file__).parent
        assert Path(owner.get_installed_path('mmaction')) == folder
        mmcv = Path(importlib.util.find_spec('mmcv').origin).parent
        assert Path(owner.get_installed_path('mmcv-lite')) == mmcv
        with pytest.raises(importlib.metadata.PackageNotFoundError):
            owner.get_installed_path('nonexistent_pkg')


def test_package_functions_stay_where_pkg_resources_is(monkeypatch):
    before = mmengine.utils.get_installed_path
    hide_packages(monkeypatch, pkg_resources=True)
    packages.do_without_pkg_resources()
    assert mmengine.utils.get_installed_path is before


def test_config_inherits_from_mmaction_without_pkg_resources(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text("_base_ = ['mmaction::_base_/default_runtime.py']\n")
    result = run_python(
        'import sys\n'
        'sys.modules["pkg_resources"] = None\n'
        'import mmmotionmae\n'
        'from mmengine.config import Config\n'
        'print(Config.fromfile(sys.argv[1]).default_hooks.timer.type)\n',
        config,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith('IterTimerHook')


@pytest.mark.parametrize('full', [False, True])
def test_the_compiled_mmcv_is_found_without_pkgutil(monkeypatch, full):
    owners = (
        mmengine.utils.dl_utils,
        mmengine.utils.dl_utils.misc,
        mmengine.model.utils,
        mmengine.optim.optimizer.default_constructor,
    )
    for owner in owners:  # undone afterwards
        now = owner.mmcv_full_available
        monkeypatch.setattr(owner, 'mmcv_full_available', now)
    monkeypatch.delattr(pkgutil, 'find_loader', raising=False)
    packages.find_compiled_mmcv()
    hide_packages(monkeypatch, **{'mmcv._ext': full})
    assert [owner.mmcv_full_available() for owner in owners] == [full] * 4
    hide_packages(monkeypatch, mmcv=False)
    assert not owners[0].mmcv_full_available()


# ------------------------------------------------------------- checkpoints

ODD = object()


@pytest.mark.parametrize(
    'value,expected',
    [
        (None, None),
        (True, True),
        (3, 3),
        (2.5, 2.5),
        (1 + 2j, 1 + 2j),
        ('text', 'text'),
        (b'bytes', b'bytes'),
        (np.float64(0.1), 0.1),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.str_('word'), 'word'),
        (torch.float16, torch.float16),
        (torch.device('cpu'), torch.device('cpu')),
        (torch.Size([1, 2]), torch.Size([1, 2])),
        (Path('a') / 'b', os.path.join('a', 'b')),
        (np.array(['x', 'y']), ['x', 'y']),
        (np.array([1 + 1j]), [1 + 1j]),
        ([np.int32(1), (np.float32(2), 'x')], [1, (2.0, 'x')]),
        ({5}, [5]),
        (frozenset([5]), [5]),
        ({np.int64(1): {'a': np.float32(4)}}, {1: {'a': 4.0}}),
    ],
)
def test_to_plain_values(value, expected):
    plain = to_plain(value)
    assert plain == expected and type(plain) is type(expected)


@pytest.mark.parametrize(
    'array',
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array([True, False]),
        np.arange(4, dtype=np.uint8),
        np.array(3.0),
        np.arange(4)[::-1],
        np.arange(4, dtype='>i4'),
    ],
)
def test_to_plain_arrays(array):
    plain = to_plain(array)
    assert isinstance(plain, torch.Tensor)
    assert plain.shape == array.shape
    assert plain.numpy().dtype == array.dtype.newbyteorder('=')
    assert plain.tolist() == array.tolist()


def test_to_plain_leaves_tensors_alone():
    tensor = torch.ones(2, requires_grad=True)
    assert to_plain({'a': tensor})['a'] is tensor


def test_to_plain_keeps_versions_of_a_state_dict():
    state = nn.Sequential(nn.BatchNorm1d(2)).state_dict()
    plain = to_plain(state)
    assert type(plain) is OrderedDict and list(plain) == list(state)
    assert plain._metadata == state._metadata
    assert plain._metadata['0'] == {'version': 2}


def test_to_plain_names_the_odd_object(messages):
    plain = to_plain({'meta': {'list': [1, ODD]}})
    assert plain == {'meta': {'list': [1, repr(ODD)]}}
    assert len(messages) == 1
    assert 'checkpoint.meta.list[1] is a object' in messages[0]


def test_saved_checkpoint_loads_safely(tmp_path, messages):
    net = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = dict(
        state_dict=net.state_dict(),
        optimizer=optimizer.state_dict(),
        message_hub=dict(log_scalars={'loss': HistoryBuffer([2.0], [1])}),
        meta=dict(
            path=Path('x'),
            acc=np.float64(0.5),
            unsigned=np.arange(3, dtype=np.uint16),
            generator=np.random,
        ),
    )
    file = tmp_path / 'epoch_1.pth'
    save_checkpoint(checkpoint, str(file))
    loaded = torch.load(file, weights_only=True)
    assert torch.equal(loaded['state_dict']['weight'], net.weight)
    momentum = loaded['optimizer']['state'][0]['exp_avg']
    assert torch.equal(momentum, optimizer.state_dict()['state'][0]['exp_avg'])
    assert momentum.abs().sum() > 0
    assert loaded['meta']['path'] == 'x' and loaded['meta']['acc'] == 0.5
    assert loaded['meta']['unsigned'].tolist() == [0, 1, 2]
    assert isinstance(loaded['meta']['generator'], str)
    assert len(messages) == 1 and 'meta.generator' in messages[0]
    # The runner has a name of its own for the function.
    import mmengine.runner.runner

    assert mmengine.runner.runner.save_checkpoint is save_checkpoint


def filled_hub(name):
    hub = MessageHub(name)
    for i in range(5):
        hub.update_scalar('train/loss', 1 / (i + 1), count=i + 1)
    hub.update_info('epoch', 3)
    hub.update_info('array', np.arange(3))
    return hub


@pytest.mark.parametrize('plain', [True, False], ids=['plain', 'old style'])
def test_message_hub_round_trip(plain):
    source, target = filled_hub('a'), MessageHub('b')
    state = source.state_dict()
    if plain:
        file = io.BytesIO()
        torch.save(to_plain(state), file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
        assert isinstance(state['log_scalars']['train/loss'], Mapping)
    target.load_state_dict(state)
    old = source.get_scalar('train/loss')
    new = target.get_scalar('train/loss')
    assert isinstance(new, HistoryBuffer)
    for one, other in zip(old.data, new.data, strict=True):
        assert np.array_equal(one, other) and one.dtype == other.dtype
    assert new.max_length == old.max_length
    assert new.mean(3) == old.mean(3)
    new.update(7.0)  # it goes on where it stopped
    assert len(new.data[0]) == 6 and new.current() == 7.0
    assert target.get_info('epoch') == 3


def test_message_hub_takes_another_hub():
    target = MessageHub('d')
    target.load_state_dict(filled_hub('c'))
    assert target.get_scalar('train/loss').current() == 1 / 5


@pytest.mark.parametrize(
    'name, kind', [('put', bytes), ('put_text', bytes.decode)]
)
def test_failed_write_leaves_the_old_file(name, kind, tmp_path):
    backend, file = LocalBackend(), tmp_path / 'new' / 'epoch_1.pth'
    put = getattr(backend, name)
    put(kind(b'old' * 100), file)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # as on a full disk: part of the bytes are written
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(OSError, match='File too large'):
            put(kind(b'new' * 10000), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == b'old' * 100
    assert os.listdir(file.parent) == ['epoch_1.pth']
    put(kind(b'new'), str(file))
    assert file.read_bytes() == b'new'
    assert os.listdir(file.parent) == ['epoch_1.pth']


class Intruder:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs):
        return self.layer(inputs)


def load_with_loader(file, tmp_path):
    return CheckpointLoader.load_checkpoint(str(file), 'cpu')


def load_with_runner(file, tmp_path):
    runner = Runner(
        Net(), str(tmp_path / 'run'), experiment_name=uuid.uuid4().hex
    )
    return runner.load_checkpoint(str(file))


def load_with_init_cfg(file, tmp_path):
    init_cfg = dict(type='Pretrained', checkpoint=str(file))
    BaseModule(init_cfg).init_weights()


@pytest.mark.parametrize(
    'load', [load_with_loader, load_with_runner, load_with_init_cfg]
)
@pytest.mark.parametrize('zipped', [True, False])
def test_unsafe_checkpoint(tmp_path, monkeypatch, load, zipped):
    file, folder = tmp_path / 'bad.pth', tmp_path / 'made_by_intruder'
    checkpoint = dict(state_dict={}, meta=Intruder(folder))
    torch.save(checkpoint, file, _use_new_zipfile_serialization=zipped)
    # Neither may a setting of the shell weaken this.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with pytest.raises(CheckpointError) as error:
        load(file, tmp_path)
    assert not folder.exists()
    for part in (str(file), '--trust-checkpoint', '.mkdir'):
        assert part in str(error.value)
    assert '\n' not in str(error.value)
    assert os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] == '1'
    monkeypatch.delenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')

    trust_checkpoints(True)
    load(file, tmp_path)
    assert folder.is_dir()


def damaged_files():
    buffer = io.BytesIO()
    checkpoint = dict(state_dict=dict(a=torch.arange(1000.0)))
    torch.save(checkpoint, buffer)
    whole = buffer.getvalue()
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer, _use_new_zipfile_serialization=False)
    legacy = buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('readme.txt', 'not a checkpoint')
    half = len(whole) // 2
    return dict(
        empty=b'',
        truncated=whole[:half],
        start_only=whole[:50],
        zeros_at_the_end=whole[:half] + bytes(half),
        truncated_legacy=legacy[: len(legacy) // 2],
        start_only_of_legacy=legacy[:70],
        text=b'Hello world\n',
        # `c` and two lines is pickle's instruction to import something
        text_like_a_pickle=b'configs are here\nand there\n',
        error_page=b'<!DOCTYPE html><html>404</html>',
        git_lfs=b'version https://git-lfs.github.com/spec/v1\nsize 1\n',
        zip_of_another_kind=buffer.getvalue(),
        other_pickle=pickle.dumps({'a': 1}),
        zeros=bytes(100),
    )


@pytest.mark.parametrize('trust', [False, True])
@pytest.mark.parametrize('name', damaged_files())
def test_damaged_checkpoint(tmp_path, name, trust):
    file = tmp_path / f'{name}.pth'
    file.write_bytes(damaged_files()[name])
    trust_checkpoints(trust)
    with pytest.raises(CheckpointError) as error:
        CheckpointLoader.load_checkpoint(str(file), 'cpu')
    message = str(error.value)
    assert message.startswith(f'{file} is not a readable PyTorch checkpoint')
    # To trust such a file does not help.
    assert 'trust' not in message and '\n' not in message


def test_folder_and_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match='is a folder') as error:
        CheckpointLoader.load_checkpoint(str(tmp_path), 'cpu')
    assert str(tmp_path) in str(error.value)
    missing = tmp_path / 'missing.pth'
    with pytest.raises(FileNotFoundError, match='missing.pth'):
        CheckpointLoader.load_checkpoint(str(missing), 'cpu')


def test_other_errors_of_loading_stay_what_they_are(tmp_path):
    file = tmp_path / 'good.pth'
    torch.save(dict(a=torch.ones(3)), file)

    def no_such_device(storage, location):
        raise RuntimeError('there is no CUDA here')

    with pytest.raises(RuntimeError, match='no CUDA') as error:
        CheckpointLoader.load_checkpoint(str(file), no_such_device)
    assert not isinstance(error.value, CheckpointError)


@pytest.mark.parametrize('trust', [False, True])
def test_loading_leaves_the_environment_alone(tmp_path, monkeypatch, trust):
    """Other threads, and processes that start meanwhile, have it, too."""
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '0')
    file = tmp_path / 'good.pth'
    torch.save(dict(a=torch.ones(3)), file)
    trust_checkpoints(trust)
    before, during = dict(os.environ), []

    def spy(storage, location):
        during.append(dict(os.environ))
        return storage

    loaded = CheckpointLoader.load_checkpoint(str(file), spy)
    assert torch.equal(loaded['a'], torch.ones(3))
    assert during == [before] and dict(os.environ) == before


# ------------------------------------------------------- training on a CPU


def amp_wrapper(net, **kwargs):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    return AmpOptimWrapper(optimizer=optimizer, **kwargs)


@on_cpu
@pytest.mark.parametrize('dtype', ['bfloat16', torch.bfloat16])
def test_amp_trains_in_bfloat16(dtype):
    net, twin = nn.Linear(4, 4), nn.Linear(4, 4)
    twin.load_state_dict(net.state_dict())
    wrapper = amp_wrapper(
        net, dtype=dtype, clip_grad=dict(max_norm=0.5), accumulative_counts=1
    )
    inputs = torch.randn(8, 4)
    with wrapper.optim_context(net):
        assert torch.is_autocast_enabled('cpu')
        output = net(inputs)
        loss = output.float().square().mean()
    assert output.dtype == torch.bfloat16
    assert not torch.is_autocast_enabled('cpu')
    wrapper.update_params(loss)

    # The same step by hand: no loss scaling is involved.
    with torch.autocast('cpu', torch.bfloat16):
        loss = twin(inputs).float().square().mean()
    loss.backward()
    nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
    torch.optim.SGD(twin.parameters(), lr=0.1).step()
    assert torch.equal(net.weight, twin.weight)
    assert torch.equal(net.bias, twin.bias)


@on_cpu
def test_amp_state_round_trip():
    net = nn.Linear(4, 4)
    wrapper = amp_wrapper(net, dtype='bfloat16')
    wrapper.optimizer.param_groups[0]['lr'] = 0.025
    state = wrapper.state_dict()
    assert state['loss_scaler'] == {}
    other = amp_wrapper(net, dtype='bfloat16', loss_scale=dict(enabled=False))
    other.load_state_dict(state)
    assert other.get_lr()['lr'] == [0.025]


@on_cpu
@pytest.mark.parametrize('dtype', ['float16', torch.float16, None])
def test_amp_refuses_float16(dtype):
    with pytest.raises(ValueError, match='--amp bf16'):
        amp_wrapper(nn.Linear(4, 4), dtype=dtype)


@pytest.fixture
def process_group(monkeypatch):
    """A group of this process alone, started by MMEngine's launcher."""
    for name, value in dict(
        RANK='0',
        LOCAL_RANK='0',
        WORLD_SIZE='1',
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT='0',  # a free one
    ).items():
        monkeypatch.setenv(name, value)
    set_device = torch.cuda.set_device
    init_dist('pytorch', backend='nccl')
    assert torch.cuda.set_device is set_device
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@on_cpu
def test_launcher_and_ddp_on_cpu(process_group):
    assert torch.distributed.get_backend() == 'gloo'
    net = Net()
    # What `Runner.wrap_model` passes, also for a model on the CPU.
    ddp = MMDistributedDataParallel(net, device_ids=[0])
    assert ddp.device_ids is None
    wrapper = OptimWrapper(torch.optim.SGD(net.parameters(), lr=1.0))
    before = net.layer.bias.item()
    wrapper.update_params(ddp(torch.ones(1, 1)).sum())
    assert net.layer.bias.item() == before - 1
    assert running.leave_process_group()
    assert not torch.distributed.is_initialized()


@on_cpu
def test_models_without_weights_are_not_wrapped(process_group):
    runner = Runner.__new__(Runner)
    runner.cfg = {}
    runner._launcher = 'pytorch'
    runner._distributed = True
    model = nn.Identity()
    assert runner.wrap_model(None, model) is model
    wrapped = runner.wrap_model(None, Net())
    assert type(wrapped) is MMDistributedDataParallel


def test_leave_process_group_without_a_group():
    assert not torch.distributed.is_initialized()
    assert not running.leave_process_group()


def test_end_process():
    """What Python does at exit is done; nothing after it is."""
    code = (
        'import atexit, os, sys, mmmotionmae.compat as compat\n'
        'atexit.register(print, "second")\n'
        'atexit.register(print, "first")\n'
        'class Last:\n'
        '    def __del__(self): os._exit(3)\n'
        'last = Last()\n'
        'print("open line", end=" ")\n'
        'compat.end_process()\n'
        'print("never")\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    assert done.returncode == 0
    assert done.stdout.endswith('open line first\nsecond\n')


PROBE = """
import torch
from mmaction.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook

@HOOKS.register_module()
class Probe(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            self.clip = data_batch['inputs'][0]

    def after_train(self, runner):
        state = runner.model.module.state_dict()
        torch.save(dict(state=state, clip=self.clip), f'rank{get_rank()}.pth')
"""


@on_cpu
def test_two_processes_agree(tmp_path, run_env):
    (tmp_path / 'probe.py').write_text(PROBE)
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = [{str(PRETRAIN)!r}]\n'
        'custom_imports = dict(imports=["mmmotionmae", "probe"])\n'
        'custom_hooks = [dict(type="Probe")]\n'
    )
    run_env.update(
        PYTHONPATH=str(tmp_path),
        PATH=f'{Path(sys.executable).parent}:{run_env["PATH"]}',
        PORT='',  # any
    )
    result = subprocess.run(
        [ROOT / 'tools/dist_train.sh', config, '2']
        + ['--work-dir', 'run', '--cfg-options', 'train_cfg.max_epochs=1']
        + ['train_dataloader.batch_size=8'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=run_env,
        timeout=HUNG,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'Effective batch size: 16 clips a step = 2' in (
        result.stdout + result.stderr
    )
    ranks = [torch.load(tmp_path / f'rank{i}.pth') for i in range(2)]
    assert not torch.equal(ranks[0]['clip'], ranks[1]['clip'])
    first, second = (rank['state'] for rank in ranks)
    assert first.keys() == second.keys() and len(first) > 10
    assert all(torch.equal(first[name], second[name]) for name in first)
    saved = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=True)
    assert all(torch.equal(first[k], saved['state_dict'][k]) for k in first)


@pytest.mark.parametrize(
    'text,value',
    [
        ('/my videos/a b', '/my videos/a b'),
        ('"/my videos"', '/my videos'),
        ('', ''),
        ('1e-3', 1e-3),
        ('8', 8),
        ('True', True),
        ('None', None),
        ('[1, 2]', [1, 2]),
        ('a, b', ['a', 'b']),
        ('[(a, b), c]', [('a', 'b'), 'c']),
        ('run (1)/a', 'run (1)/a'),
        ('run (1, 2)/a', 'run (1, 2)/a'),
        ('[play guitar, run]', ['play guitar', 'run']),
        ("'a b','c'", ['a b', 'c']),
        ('[]', []),
        ('(1,)', (1,)),
        ("{'a': 1, 'b': [2, 3]}", {'a': 1, 'b': [2, 3]}),
        (
            "[{'type':'LinearLR','end':5},{'type':'StepLR'}]",
            [{'type': 'LinearLR', 'end': 5}, {'type': 'StepLR'}],
        ),
    ],
)
def test_options_are_read_whole(text, value):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    options = parser.parse_args(['--cfg-options', f'x.y={text}']).cfg_options
    assert options == {'x.y': value}
    assert type(options['x.y']) is type(value)


@pytest.mark.parametrize('runner', [Runner, FlexibleRunner])
@pytest.mark.parametrize('num_workers', [None, 0, 1])
def test_options_for_processes_need_some(runner, num_workers, shapes_dir):
    dataset = dict(
        type='RobustVideoDataset',
        pipeline=[],
        data_prefix=dict(video=str(shapes_dir / 'videos')),
    )
    cfg = dict(
        batch_size=2,
        num_workers=num_workers,
        persistent_workers=True,
        prefetch_factor=3,
        timeout=7,
        multiprocessing_context='fork',
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dataset,
    )
    if num_workers is None:
        del cfg['num_workers']
    loader = runner.build_dataloader(ConfigDict(cfg), seed=0)
    names = [name for batch in loader for name in batch['filename']]
    assert len(names) == len(loader.dataset) == 64
    found = (loader.num_workers, loader.persistent_workers, loader.timeout)
    assert found == ((1, True, 7) if num_workers else (0, False, 0))
    assert loader.prefetch_factor == (3 if num_workers else None)


class Unsendable(torch.utils.data.Dataset):
    """The third sample cannot be pickled."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return (lambda: index) if index == 2 else index


def test_what_cannot_be_sent_is_an_error():
    loader = torch.utils.data.DataLoader(
        Unsendable(),
        batch_size=None,
        num_workers=1,
        multiprocessing_context='fork',
        collate_fn=lambda sample: sample,
        timeout=HUNG,
    )
    found = iter(loader)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(
        Exception, match="an't (pickle|get).* local obj"
    ) as error:
        next(found)
    assert 'in DataLoader worker process 0' in str(error.value)
    assert list(found) == [3, 4, 5]


class Numbers(BaseDataset):
    """Gives its indices back."""

    def load_data_list(self):
        return [dict(label=i % 3) for i in range(6)]

    def get_cat_ids(self, idx):
        return [idx % 3]

    def __getitem__(self, idx):
        return idx


def test_wrappers_hand_on_the_seed_of_an_index():
    plain = [Numbers(), Numbers()]
    for dataset, expected in (
        (ConcatDataset(plain), [*range(6), *range(6)]),
        (RepeatDataset(plain[0], 2), [*range(6), *range(6)]),
        (ClassBalancedDataset(plain[0], 1), [i // 2 for i in range(12)]),
    ):
        found = [dataset[SampleIndex(i, 100 + i)] for i in range(12)]
        assert found == expected
        assert [index.seed for index in found] == [*range(100, 112)]
        assert type(dataset[7]) is int and dataset[7] == expected[7]


def test_balancing_within_wrappers():
    concatenated = ConcatDataset([Numbers(), Numbers()])
    assert concatenated.get_cat_ids(10) == [1]
    assert RepeatDataset(Numbers(), 3).get_cat_ids(11) == [2]


def test_hard_labels_in_bfloat16():
    """Loss and accuracy are those of the same scores in float32."""
    head = MODELS.build(
        dict(type='TimeSformerHead', num_classes=6, in_channels=8, topk=(1, 3))
    )
    samples = [ActionDataSample().set_gt_label(i) for i in (0, 5, 2, 2)]
    scores = torch.randn(4, 6).bfloat16().requires_grad_()
    losses = head.loss_by_feat(scores, samples)
    labels = torch.tensor([0, 5, 2, 2])
    expected = nn.functional.cross_entropy(scores.float(), labels)
    assert losses['loss_cls'].dtype == torch.float32
    assert losses['loss_cls'].item() == pytest.approx(expected.item())
    best = scores.argsort(dim=1, descending=True)
    for k in (1, 3):
        hits = (best[:, :k] == labels[:, None]).any(1).float().mean()
        assert losses[f'top{k}_acc'].item() == pytest.approx(hits.item())
    losses['loss_cls'].backward()
    assert scores.grad.dtype == torch.bfloat16


# ------------------------------------------------------ vision transformers


@pytest.mark.parametrize(
    'kind', ['VisionTransformer', 'FusedVisionTransformer', 'MotionMAEViT']
)
def test_arguments_that_a_vision_transformer_would_swallow(kind):
    with pytest.raises(UsageTypeError) as error:
        MODELS.build(dict(TINY_BACKBONE, type=kind, patch_sise=8))
    assert str(error.value) == (
        f"{kind} has no argument 'patch_sise'; did you mean patch_size?"
    )
    # Upstream it is lost on the way.
    with pytest.raises(UsageError, match="init_cfg=dict.type='Pretrained'"):
        MODELS.build(dict(TINY_BACKBONE, type=kind, pretrained='a.pth'))
    vit = MODELS.build(dict(TINY_BACKBONE, type=kind, pretrained=None))
    assert len(vit.blocks) == TINY_BACKBONE['depth']


@pytest.mark.parametrize('heads', [0, 3, 5, 64])
def test_heads_must_divide_the_width(heads):

    with pytest.raises(UsageError, match=f'num_heads={heads} does not divide'):
        Attention(32, heads)
    assert Attention(32, num_heads=4).scale == 8**-0.5
    assert Attention(32).num_heads == 8


def labelled(labels):
    samples = [ActionDataSample().set_gt_label(label) for label in labels]
    for number, sample in enumerate(samples):
        sample.set_field(torch.full((1 + number // 2,), number), 'extra')
        sample.set_metainfo(dict(number=number))
    return samples


def test_data_samples_are_copied_with_all_that_they_hold():
    """New ones; equal fields are parts of one tensor."""
    samples = labelled([3, 1, 2])
    copies = waiting.copy_samples(samples, torch.device('cpu'))
    for number, (old, new) in enumerate(zip(samples, copies, strict=True)):
        assert new is not old and new.number == number
        assert new.keys() == old.keys()
        assert torch.equal(new.gt_label, old.gt_label)
        assert torch.equal(new.extra, old.extra)
    one, two = copies[:2]
    assert one.gt_label.untyped_storage().data_ptr() == (
        two.gt_label.untyped_storage().data_ptr()
    )


def test_a_preprocessor_casts_as_before():
    preprocessor = MODELS.build(dict(type='ActionDataPreprocessor'))
    batch = dict(
        inputs=[torch.rand(1, 3, 4, 8, 8)] * 2,
        data_samples=labelled([3, 1]),
        other=[1, 'a', None],
        none=[],
    )
    cast = preprocessor.cast_data(batch)
    stock = type(preprocessor).cast_data.__wrapped__(preprocessor, batch)
    assert cast['other'] == stock['other'] == batch['other']
    assert cast['none'] == []
    for name in ('inputs', 'data_samples'):
        assert len(cast[name]) == len(stock[name]) == 2
    assert torch.equal(cast['inputs'][1], batch['inputs'][1])
    assert [s.gt_label.item() for s in cast['data_samples']] == [3, 1]


@pytest.mark.parametrize('many', [False, True])
@pytest.mark.parametrize('kind', ['MixupBlending', 'CutmixBlending'])
def test_blending_is_what_it_was(kind, many):
    """Bit by bit, with the same draws; labels of one class and of several."""
    blending = MODELS.build(dict(type=kind, num_classes=4, alpha=1.0))
    labels = [[0, 1, 0, 1], [1, 0, 0, 0]] if many else [3, 1]
    call = type(blending).__call__
    results = []
    for blend in (call, call.__wrapped__):
        torch.manual_seed(1)
        frames = torch.rand(2, 1, 3, 4, 8, 8)
        frames, samples = blend(blending, frames, labelled(labels))
        results.append((frames, torch.stack([s.gt_label for s in samples])))
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
    assert results[0][1].shape == (2, 4)


@pytest.mark.parametrize('given', [{}, dict(gradient_as_bucket_view=False)])
def test_ddp_keeps_each_gradient_once(given):
    torch.distributed.init_process_group(
        'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    model = MMDistributedDataParallel(
        torch.nn.Linear(2, 3), device_ids=[0], **given
    )
    model(torch.ones(1, 2)).sum().backward()
    grads = [p.grad for p in model.module.parameters()]
    assert torch.equal(grads[0], torch.ones(3, 2))
    storages = {grad.untyped_storage().data_ptr() for grad in grads}
    assert len(storages) == (2 if given else 1)
