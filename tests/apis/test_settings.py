# Copyright (c) MotionMAE contributors. All rights reserved.
"""What a config sets is read, or said not to be."""

import logging
from unittest import mock

import pytest
from mmengine.config import Config

from mmmotionmae.apis import settings
from mmmotionmae.apis.runner import load_config
from mmmotionmae.utils.errors import UsageError

BASE = """
data_root = 'data/here'
batch_size = 4
train_pipeline = [dict(type='TubeMasking', mask_ratio=0.5)]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=4,
    dataset=dict(
        ann_file=f'{data_root}/train.txt',
        data_prefix=dict(video=data_root),
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(batch_size=batch_size)
default_hooks = dict(logger=dict(type='LoggerHook', interval=10))
env_cfg = dict(cudnn_benchmark=True)
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'base.py'
    path.write_text(BASE)
    return str(path)


@pytest.mark.parametrize(
    'key,value,places',
    [
        (
            'data_root',
            '/x',
            'train_dataloader.dataset.ann_file, '
            'train_dataloader.dataset.data_prefix.video',
        ),
        (
            'batch_size',
            8,
            'train_dataloader.batch_size, test_dataloader.batch_size',
        ),
        (
            'train_pipeline.0.mask_ratio',
            0.9,
            'train_dataloader.dataset.pipeline',
        ),
    ],
)
def test_variables_of_the_file_alone(config, key, value, places):
    name = key.partition('.')[0]
    with pytest.raises(UsageError) as error:
        load_config(config, {key: value})
    assert str(error.value) == (
        f'--cfg-options {key} has no effect: {name!r} is a variable that only '
        'the config file itself has used. Set what has its value in its '
        f'place: {places}.'
    )


def test_many_places_of_a_variable(tmp_path):
    path = tmp_path / 'config.py'
    folders = ', '.join(f'p{i}=root' for i in range(6))
    path.write_text(f"root = 'a'\nmodel = dict({folders})\n")
    with pytest.raises(UsageError) as error:
        load_config(str(path), {'root': 'b'})
    assert str(error.value).endswith(
        'place: model.p0, model.p1, model.p2, model.p3, ….'
    )


@pytest.mark.parametrize(
    'key,end',
    [
        ('train_cfgg.max_epochs', "'train_cfgg'; did you mean train_cfg?"),
        ('zzz', "'zzz', nor has the config such a setting."),
    ],
)
def test_settings_that_nothing_reads(config, key, end):
    with pytest.raises(UsageError) as error:
        load_config(config, {key: 1})
    assert str(error.value) == f'--cfg-options {key}: nothing reads {end}'


@pytest.mark.parametrize(
    'key,one',
    [
        ('model', 'model.NAME'),
        ('custom_hooks', 'custom_hooks.NAME'),
        ('default_hooks', 'default_hooks.logger'),
        ('default_hooks.logger', 'default_hooks.logger.interval'),
        (
            'train_dataloader.dataset.pipeline.0',
            'train_dataloader.dataset.pipeline.0.mask_ratio',
        ),
    ],
)
def test_texts_in_place_of_settings(config, key, one):
    with pytest.raises(UsageError) as error:
        load_config(config, {key: 'TEXT'})
    assert str(error.value) == (
        f'--cfg-options {key}=TEXT: {key} is no text but made of settings. '
        f'Name the one to change, such as {one}=VALUE.'
    )


@pytest.mark.parametrize(
    'key,value',
    [
        ('model.type', 'MotionMAE'),
        ('train_cfg.max_epochs', 3),
        ('train_dataloader.batch_size', 8),
        ('train_dataloader.dataset.pipeline.0.mask_ratio', 0.9),
        ('train_dataloader.dataset.pipeline.0.new', 'a'),
        ('default_hooks.logger', None),
        ('load_from', 'a.pth'),
        ('find_unused_parameters', True),
        ('resume_optimizer', 'config'),
        ('strategy.type', 'FSDP2Strategy'),
        ('compile', False),
    ],
)
def test_options_that_are_read(config, key, value):
    cfg = load_config(config, {key: value})
    assert settings._at(cfg, key) == value


def test_plans_have_settings_of_their_own(tmp_path):
    path = tmp_path / 'plan.py'
    path.write_text('pretrain_steps = 4000\n')
    assert load_config(str(path), {'pretrain_steps': 5}).pretrain_steps == 5


@pytest.mark.parametrize(
    'cfg,text',
    [
        (
            dict(runner_type='FlexibelRunner'),
            "There is no runner_type 'FlexibelRunner'; did you mean "
            'FlexibleRunner?',
        ),
        (
            dict(log_level='LOUD'),
            "There is no log_level 'LOUD'. They are CRITICAL, FATAL, ERROR, "
            'WARN, WARNING, INFO, DEBUG, NOTSET.',
        ),
        (
            dict(auto_scale_lr=dict(enabled=True)),
            'Nothing reads auto_scale_lr.enabled; did you mean enable?',
        ),
        (
            dict(env_cfg=dict(mp_cfg=dict(x=1))),
            'Nothing reads env_cfg.mp_cfg.x. It has mp_start_method, '
            'opencv_num_threads.',
        ),
        (
            dict(val_dataloader=dict(persistent_worker=True)),
            'Nothing reads val_dataloader.persistent_worker; did you mean '
            'persistent_workers?',
        ),
        (
            dict(optim_wrapper=dict(clip_grad=dict(max_nrm=1))),
            'Nothing reads optim_wrapper.clip_grad.max_nrm; did you mean '
            'max_norm?',
        ),
        (
            dict(optim_wrapper=dict(paramwise_cfg=dict(norm_decay_mul=0))),
            'Nothing reads optim_wrapper.paramwise_cfg.norm_decay_mul; did '
            'you mean norm_decay_mult?',
        ),
    ],
)
def test_settings_that_are_none(cfg, text):
    with pytest.raises(UsageError) as error:
        settings.check_settings(Config(cfg))
    assert str(error.value) == text


def test_settings_that_are_some(config):
    cfg = load_config(
        config, {'runner_type': 'FlexibleRunner', 'log_level': 'DEBUG'}
    )
    settings.check_settings(cfg)
    cfg.optim_wrapper = dict(constructor='Mine', paramwise_cfg=dict(x=1))
    settings.check_settings(cfg)


def warnings_of(path):
    with mock.patch.object(settings, 'print_log') as log:
        settings.warn_of_unread(Config.fromfile(str(path)))
    assert {c.args[1:] for c in log.mock_calls} <= {
        ('current', logging.WARNING)
    }
    return [call.args[0] for call in log.mock_calls]


def test_variables_that_nothing_reads(config, tmp_path):
    assert warnings_of(config) == []
    child = tmp_path / 'child.py'
    child.write_text(
        "_base_ = ['base.py']\n"
        "data_root = '/mine'\n"
        'test_batch = 2\n'
        'test_dataloader = dict(batch_size=test_batch)\n'
        'trian_cfg = dict(max_epochs=3)\n'
        "custom_imports = dict(imports=['mmmotionmae'])\n"
    )
    end = (
        ' What a base config has made of a variable of that name stays as it '
        'is: set that itself.'
    )
    assert warnings_of(child) == [
        f"{child} sets 'data_root', which nothing reads.{end}",
        f"{child} sets 'trian_cfg', which nothing reads; did you mean "
        f'train_cfg?{end}',
    ]
    settings.warn_of_unread(Config(dict(a=1)))  # of no file
