# Copyright (c) MotionMAE contributors. All rights reserved.
"""What README files and configs tell to type can be typed."""

import ast
import os
import re
import runpy
import shlex
import subprocess
import sys
from functools import cache

import pytest
from conftest import ROOT
from helpers.typed_commands import bash_blocks

README = (ROOT / 'README.md').read_text()
GUIDES = sorted(
    path
    for pattern in (
        '*.md',
        'configs/*/README.md',
        'tools/**/README.md',
        'docs/**/[!0-9]*.md',
    )
    for path in ROOT.glob(pattern)
    if path.name != 'CHANGELOG.md'
    and not {'_build', 'generated'} & {*path.parts}
)
# What dist_train.sh hands on to torchrun, or does in its place.
TORCHRUN = {'--max-restarts', '--nnodes', '--rdzv-endpoint'}
CONFIGS = [
    path
    for path in sorted((ROOT / 'configs').rglob('*.py'))
    if '_base_' not in path.parts
]


def commands_of(script):
    """The calls of tools in a shell script, as lists of words."""
    lines = re.sub(r'\\\n', ' ', script).splitlines()
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=';&|')
        lexer.whitespace_split = True
        words = list(lexer)
        for i, word in enumerate(words):
            if re.fullmatch(r'(?:\./)?tools/[\w/-]+\.(?:py|sh)', word):
                end = next(
                    (
                        j
                        for j in range(i + 1, len(words))
                        if words[j] in ('|', '||', '&&', ';', 'do')
                    ),
                    len(words),
                )
                yield words[i:end]
                break


@cache
def help_of(tool, *subcommand):
    """What a tool prints for --help."""
    name = re.sub(r'(?:dist|slurm)_(train|test)\.sh', r'\1.py', tool)
    path = ROOT / name
    program = sys.argv, sys.path
    sys.argv = [str(path), *subcommand, '--help']
    sys.path = [str(path.parent), *sys.path]
    read, write = os.pipe()
    stdout = os.dup(1)
    os.dup2(write, 1)
    printed = sys.stdout
    try:
        with os.fdopen(write, 'w') as sys.stdout, pytest.raises(SystemExit):
            runpy.run_path(str(path), run_name='__main__')
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        sys.stdout = printed
        sys.argv, sys.path = program
    with os.fdopen(read) as file:
        return file.read()


def flags_of(tool, first=''):
    """The flags of a tool; ``first``: its first argument."""
    text = help_of(tool)
    subcommands = re.search(r'^  \{([\w,]+)\}$', text, flags=re.M)
    if subcommands and first in subcommands[1].split(','):
        text = help_of(tool, first)
    ours = set(re.findall(r'--[\w-]+', text))
    return ours | TORCHRUN if 'dist_train' in tool else ours


def check_script(script):
    """A shell script parses; its tools, flags and configs exist."""
    done = subprocess.run(
        ['bash', '-n'], input=script, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    for tool, *arguments in commands_of(script):
        assert (ROOT / tool).is_file(), tool
        used = {a.split('=')[0] for a in arguments if a.startswith('--')}
        assert used <= flags_of(tool, *arguments[:1]), tool
    for name in re.findall(r'configs/[\w./-]+\.py', script):
        assert name.endswith('/CONFIG.py') or (ROOT / name).is_file(), name


@pytest.mark.parametrize(
    'path', GUIDES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_commands_of_a_guide(path):
    text = path.read_text()
    for block in bash_blocks(text):
        check_script(block)
    for name in re.findall(r'\]\(([^)#]+?)(?:#[\w-]*)?\)', text):
        if '://' not in name:
            assert (path.parent / name).exists(), name


def test_commands_of_configs():
    """One test for all: the same few tools, hundreds of times."""
    for path in CONFIGS:
        text = ast.get_docstring(ast.parse(path.read_text()))
        # The rest of the line and its continuations, or indented lines.
        found = re.search(r'Command: *((?:\S.*\\\n)*\S.*|(?:\n +.*)+)', text)
        command = found[1]
        command += ''.join(re.findall(r'(?<=splits:)(?:\n +.*)+', text))
        assert list(commands_of(command)), path
        check_script(command.replace('/THIS_FILE', f'/{path.name}'))


def test_checks_can_fail():
    with pytest.raises(AssertionError):
        check_script('if true')
    with pytest.raises(AssertionError):
        check_script('python tools/trian.py')
    with pytest.raises(AssertionError):
        check_script('python tools/train.py CONFIG --no-such-flag')
    with pytest.raises(AssertionError):
        check_script('python tools/train.py configs/none.py')
    with pytest.raises(AssertionError):
        check_script('until bash tools/train.py CONFIG --sed; do :; done')
    check_script('python tools/train.py CONFIG --seed 1 && ls --all')
    check_script('until bash tools/train.py CONFIG --resume; do :; done')


def test_files_exist():
    named = re.compile(r'(?<![\w/.-])(?:configs|tools|docs)/[\w./-]+\.\w+')
    paths = set().union(*(named.findall(g.read_text()) for g in GUIDES))
    assert paths
    missing = [
        path
        for path in paths
        if not path.endswith('/CONFIG.py') and not (ROOT / path).is_file()
    ]
    assert not missing


def test_tree_names_what_is_there():
    layout = (ROOT / 'docs/notes/layout.md').read_text()
    tree = re.search(r'```text\n(.*?)```', layout, flags=re.S).group(1)
    parents = []
    for line in tree.splitlines():
        indent, name = re.match(r'( *)(\S+)', line).groups()
        parents[len(indent) // 2 :] = [name.rstrip('/')]
        assert ROOT.joinpath(*parents).exists(), line
    assert parents


def test_make_targets_exist():
    targets = {
        word
        for block in bash_blocks(README)
        for line in block.splitlines()
        if line.startswith('make ')
        for word in shlex.split(line, comments=True)[1:]
        if '=' not in word
    }
    assert {'demo', 'test'} <= targets
    makefile = (ROOT / 'Makefile').read_text()
    for target in targets:
        assert re.search(rf'^{target}:', makefile, flags=re.M), target


# Of pip, torchrun and Slurm.
FOREIGN_FLAGS = TORCHRUN | {
    '--no-deps',
    '--requeue',
    '--shutdown-timeout',
    '--signal',
}


@pytest.mark.parametrize(
    'path',
    sorted(ROOT.glob('docs/user_guides/*.md')),
    ids=lambda path: path.stem,
)
def test_flags_named_in_the_text_exist(path):
    text = path.read_text()
    named = set(re.findall(r'`(--[\w-]+)', text)) - FOREIGN_FLAGS
    tools = set(re.findall(r'tools/[\w/]+\.py', text))
    if named:
        known = set().union(*map(flags_of, {*tools, 'tools/train.py'}))
        assert named <= known
