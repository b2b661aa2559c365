# Copyright (c) MotionMAE contributors. All rights reserved.
"""Commands of a guide, run as a shell would, in this process and in small."""

import os
import re
import runpy
import shlex
import string
import sys
from pathlib import Path

import pytest
from conftest import ROOT

LOADER = ('batch_size=1', 'num_workers=0', 'persistent_workers=False')


def bash_blocks(text):
    """Blocks of shell code in a Markdown text."""
    return re.findall(r'```bash\n(.*?)```', text, flags=re.S)


def link_project(folder):
    """Make a folder look like the root of the project."""
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    return folder


class Shell:
    """A shell for `python` lines; settings before them, exported or not.

    Args:
        monkeypatch: Pytest's.
        options: Called with the words of a training or test; more options.
        variables: Names to values that win over those of the lines.
    """

    def __init__(self, monkeypatch, options=lambda words: [], **variables):
        self.monkeypatch, self.options = monkeypatch, options
        self.given, self.variables = variables, dict(variables)

    def type(self, block):
        """Type the lines of a block; each must end well."""
        for line in re.sub(r'\\\n', ' ', block).splitlines():
            words = shlex.split(
                string.Template(line).safe_substitute(self.variables),
                comments=True,
            )
            if words and words[0] == 'python':
                self._run(words[1:], line)
            elif words and words[0] != 'pip':
                self._set(words, line)

    def _set(self, words, line):
        exported = words[0] == 'export'
        for word in words[exported:]:
            name, equals, value = word.partition('=')
            assert equals, line
            self.variables[name] = self.given.get(name, value)
            if exported:
                self.monkeypatch.setenv(name, self.variables[name])

    def _run(self, words, line):
        if words[0] == '-c':
            exec(words[1], {})
            return
        if Path(words[0]).name in ('train.py', 'test.py'):
            more = self.options(words)
            if '--cfg-options' not in words:
                words.append('--cfg-options')
            words += more
        with self.monkeypatch.context() as context:
            context.setattr(sys, 'argv', words)
            context.syspath_prepend(os.path.dirname(ROOT / words[0]))
            with pytest.raises(SystemExit) as end:
                runpy.run_path(words[0], run_name='__main__')
        assert not end.value.code, line
