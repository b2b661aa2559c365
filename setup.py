# Copyright (c) MotionMAE contributors. All rights reserved.
"""What setup.cfg cannot say: a wheel carries configs and tools, for mim."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithTools(build_py):
    """Puts configs, tools and the index of models in ``mmmotionmae/.mim``.

    There OpenMMLab's ``mim`` looks for them. An editable install goes without:
    it leaves the source tree as it is.
    """

    def run(self) -> None:
        """Copy them after the package itself."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'mmmotionmae' / '.mim'
        # What an earlier build has left may be gone from the sources.
        shutil.rmtree(target, ignore_errors=True)
        for name in ('configs', 'tools'):
            shutil.copytree(
                ROOT / name,
                target / name,
                ignore=shutil.ignore_patterns(
                    '__pycache__', '*.pyc', '*.tmp', '.*'
                ),
            )
        shutil.copy2(ROOT / 'model-index.yml', target)


setup(cmdclass={'build_py': BuildWithTools})
