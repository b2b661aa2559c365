# Copyright (c) MotionMAE contributors. All rights reserved.
"""A system without the libraries that OpenCV's ordinary wheels need."""

import subprocess
import sys

import pytest
from conftest import ROOT
from helpers.processes import HUNG

from mmmotionmae.utils.errors import MissingLibraryError

NO_LIBRARY = 'cannot open shared object file: No such file or directory'


@pytest.fixture
def import_with(tmp_path):
    """Import the package with an OpenCV that says this when it is imported."""

    def run(message):
        (tmp_path / 'cv2.py').write_text(f'raise ImportError({message!r})')
        result = subprocess.run(
            [sys.executable, '-c', 'import mmmotionmae'],
            capture_output=True,
            text=True,
            timeout=HUNG,
            cwd=tmp_path,
            env=dict(PYTHONPATH=str(ROOT)),
        )
        assert result.returncode == 1
        return result.stderr

    return run


@pytest.mark.parametrize(
    ('message', 'line'),
    [
        (
            f'{name}: {NO_LIBRARY}',
            f'this system has no {name}. Install the build that does without '
            'it: pip install --no-deps --force-reinstall '
            '"opencv-contrib-python-headless<5".',
        )
        for name in ('libGL.so.1', 'libgthread-2.0.so.0')
    ]
    + [
        (
            'numpy.core.multiarray failed to import',
            'it was built for NumPy 1. Install a newer one: pip install '
            '--upgrade "opencv-python<5" "opencv-contrib-python<5".',
        )
    ],
)
def test_one_line_with_the_way_out(import_with, message, line):
    stderr = import_with(message)
    assert stderr.splitlines()[-1] == (
        'mmmotionmae.utils.errors.MissingLibraryError: OpenCV cannot be '
        f'imported: {line}'
    )
    assert message not in stderr  # one error, not two
    assert issubclass(MissingLibraryError, ImportError)


def test_other_errors_stay_as_they_are(import_with):
    stderr = import_with('another reason')
    assert stderr.splitlines()[-1] == 'ImportError: another reason'
