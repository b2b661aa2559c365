# Copyright (c) MotionMAE contributors. All rights reserved.
"""The wheel: package, configs and tools, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import ROOT
from helpers.processes import HUNG
from mmengine.config import Config

CONFIG = (
    'mmmotionmae/.mim/configs/demo/'
    'motionmae_vit-tiny-p8_1xb32-8x1x1-40e_moving-shapes.py'
)
# Environments that uv makes have none.
pytest.importorskip('pip')
RUBBISH = (
    'configs/demo/__pycache__/x.cpython-311.pyc',
    'tools/data/.ipynb_checkpoints/x.py',
    'tools/demo/report.html.tmp',
    # Of an earlier build in the same place.
    'build/lib/mmmotionmae/.mim/configs/gone.py',
)


def call(*args, **kwargs):
    result = subprocess.run(
        [str(arg) for arg in args],
        capture_output=True,
        text=True,
        timeout=HUNG,
        **kwargs,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def pip_wheel(source, out_dir):
    flags = ('--quiet', '--no-deps', '--no-build-isolation')
    pip = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
    call(*pip, 'wheel', *flags, '--wheel-dir', out_dir, source)
    (wheel,) = out_dir.glob('*.whl')
    return wheel


def files_in(wheel):
    """Files and whether they can be executed, without the metadata."""
    with ZipFile(wheel) as archive:
        return {
            info.filename: bool(info.external_attr >> 16 & 0o100)
            for info in archive.infolist()
            if '.dist-info/' not in info.filename
        }


@pytest.fixture(scope='module')
def files():
    """What belongs to the project, relative to its root."""
    if not (ROOT / '.git').exists():
        pytest.skip('not a git checkout')
    listed = call(
        *('git', 'ls-files', '-z', '--cached', '--others'),
        '--exclude-standard',
        cwd=ROOT,
    )
    paths = map(Path, filter(None, listed.split('\0')))
    return [path for path in paths if (ROOT / path).is_file()]


@pytest.fixture(scope='module')
def source(tmp_path_factory, files):
    """A copy of the project, so that a build leaves the checkout alone."""
    folder = tmp_path_factory.mktemp('source')
    for path in [*files, *map(Path, RUBBISH)]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if path in files:
            shutil.copy2(ROOT / path, folder / path)
        else:
            (folder / path).touch()
    return folder


@pytest.fixture(scope='module')
def wheel(tmp_path_factory, source):
    return pip_wheel(source, tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='module')
def expected(files):
    def can_run(path):
        return os.access(ROOT / path, os.X_OK)

    carried = {'mmmotionmae', 'configs', 'tools', 'model-index.yml'}
    places = {
        path: str(path)
        if path.parts[0] == 'mmmotionmae'
        else f'mmmotionmae/.mim/{path}'
        for path in files
        if path.parts[0] in carried
    }
    return {place: can_run(path) for path, place in places.items()}


def test_files_of_the_wheel(wheel, expected):
    assert files_in(wheel) == expected
    for name in (
        CONFIG,
        'mmmotionmae/.mim/configs/vos/README.md',
        'mmmotionmae/.mim/model-index.yml',
        'mmmotionmae/.mim/tools/demo/report.html.jinja',
    ):
        assert name in expected
    assert expected['mmmotionmae/.mim/tools/dist_train.sh']


def test_an_sdist_builds_the_same_wheel(source, tmp_path, expected):
    code = 'from setuptools import build_meta; build_meta.build_sdist("{}")'
    call(sys.executable, '-c', code.format(tmp_path), cwd=source)
    (sdist,) = tmp_path.glob('*.tar.gz')
    assert files_in(pip_wheel(sdist, tmp_path)) == expected


def test_training_from_the_wheel(wheel, tmp_path, run_env):
    target, cwd = tmp_path / 'site', tmp_path / 'of a user'
    call(
        *(sys.executable, '-m', 'pip', '--disable-pip-version-check'),
        *('install', '--quiet', '--no-deps', '--target', target, wheel),
    )
    tools = target / 'mmmotionmae' / '.mim' / 'tools'
    assert os.access(tools / 'dist_train.sh', os.X_OK)
    cwd.mkdir()
    # A config of the user's own, based on one that was installed. It also
    # says which package the training has imported.
    (cwd / 'mine.py').write_text(
        f'_base_ = [{str(target / CONFIG)!r}]\n'
        'imported = __import__("mmmotionmae").__file__\n'
        'train_cfg = dict(max_epochs=1)\n'
    )
    env = dict(run_env, PYTHONPATH=str(target))
    call(sys.executable, tools / 'train.py', 'mine.py', cwd=cwd, env=env)
    work_dir = cwd / 'work_dirs' / 'mine'
    assert (work_dir / 'epoch_1.pth').is_file()
    imported = Config.fromfile(work_dir / 'mine.py').imported
    assert imported == str(target / 'mmmotionmae' / '__init__.py')


@pytest.mark.slow
def test_a_clean_environment_with_the_wheel(wheel, tmp_path, run_env):
    del run_env['PYTHONPATH']
    call(sys.executable, '-m', 'venv', tmp_path / 'venv')
    python = tmp_path / 'venv' / 'bin' / 'python'
    pip = (python, '-m', 'pip', '--disable-pip-version-check', 'install')
    pip = (*pip, '--quiet', '--constraint', ROOT / 'constraints.txt')
    call(*pip, f'{wheel}[demo]', cwd=tmp_path, env=run_env)
    if subprocess.run([python, '-c', 'import cv2']).returncode:
        headless = 'opencv-contrib-python-headless'  # as the Makefile does
        call(*pip, '--no-deps', '--force-reinstall', headless, env=run_env)
    (site,) = (tmp_path / 'venv' / 'lib').glob('python*/site-packages')
    call(
        python,
        site / 'mmmotionmae' / '.mim' / 'tools' / 'train.py',
        site / CONFIG,
        *('--work-dir', 'work', '--cfg-options', 'train_cfg.max_epochs=1'),
        cwd=tmp_path,
        env=run_env,
    )
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()
