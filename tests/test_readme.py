# Copyright (c) MotionMAE contributors. All rights reserved.
"""The README names files, targets and flags that exist."""

import re
import shlex
import subprocess
import sys

from conftest import ROOT

README = (ROOT / 'README.md').read_text()
BLOCKS = re.findall(r'```bash\n(.*?)```', README, flags=re.S)
COMMANDS = [
    line
    for block in BLOCKS
    for line in block.replace('\\\n', ' ').splitlines()
]


def test_files_exist():
    paths = set(re.findall(r'(?:configs|tools|docs)/[\w./-]+\.\w+', README))
    assert len(paths) >= 6
    missing = [path for path in paths if not (ROOT / path).is_file()]
    assert not missing


def test_tree_names_what_is_there():
    tree = re.search(r'```text\n(.*?)```', README, flags=re.S).group(1)
    parents = []
    for line in tree.splitlines():
        indent, name = re.match(r'( *)(\S+)', line).groups()
        parents[len(indent) // 2 :] = [name.rstrip('/')]
        assert ROOT.joinpath(*parents).exists(), line
    assert len(tree.splitlines()) > 15


def test_make_targets_exist():
    targets = {
        word
        for command in COMMANDS
        if command.startswith('make ')
        for word in shlex.split(command, comments=True)[1:]
        if '=' not in word
    }
    assert {'demo', 'test'} <= targets
    makefile = (ROOT / 'Makefile').read_text()
    for target in targets:
        assert re.search(rf'^{target}:', makefile, flags=re.M), target


def test_flags_exist():
    known = {}
    for tool in ('train', 'test'):
        text = subprocess.run(
            [sys.executable, ROOT / 'tools' / f'{tool}.py', '--help'],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        known[tool] = set(re.findall(r'--[\w-]+', text))
    used = {'train': set(), 'test': set()}
    for command in COMMANDS:
        match = re.search(r'tools/(?:dist_)?(train|test)\.(?:py|sh)', command)
        if match:
            used[match[1]] |= set(re.findall(r'(?<=\s)--[\w-]+', command))
    assert '--auto-scale-lr' in used['train']
    for tool in ('train', 'test'):
        assert used[tool] <= known[tool]
    named = set(re.findall(r'`(--[\w-]+)', README)) - {'--no-deps'}  # pip's
    assert len(named) >= 8
    assert named <= known['train'] | known['test']
