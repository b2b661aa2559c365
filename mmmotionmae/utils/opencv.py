# Copyright (c) MotionMAE contributors. All rights reserved.
"""OpenCV and the libraries of the system that its wheels need."""

import re

from .errors import MissingLibraryError


def check_opencv() -> None:
    """Import OpenCV, before what fails without it imports it.

    Its ordinary wheels, which OpenMMLab requires, need libraries of a desktop
    (libGL, GLib) that servers and containers lack; those before 4.10.0.84
    were built for NumPy 1.

    Raises:
        MissingLibraryError: A shared library is missing, or NumPy is too new
            for this OpenCV; says what to install.
    """
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        missing = re.match(r'(\S+): cannot open shared object', str(error))
        if missing:
            reason = (
                f'this system has no {missing[1]}. Install the build that '
                'does without it: pip install --no-deps --force-reinstall '
                '"opencv-contrib-python-headless<5"'
            )
        elif 'numpy.core.multiarray' in str(error):
            reason = (
                'it was built for NumPy 1. Install a newer one: pip install '
                '--upgrade "opencv-python<5" "opencv-contrib-python<5"'
            )
        else:
            raise
        text = f'OpenCV cannot be imported: {reason}.'
        raise MissingLibraryError(text) from None
