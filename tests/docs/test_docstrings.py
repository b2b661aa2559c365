# Copyright (c) MotionMAE contributors. All rights reserved.
"""Docstrings open with a noun or verb that one would search for."""

import ast

from conftest import ROOT

PACKAGE = ROOT / 'mmmotionmae'
# Words that open a clause and name nothing.
EMPTY = {
    *('How', 'Likewise', 'See', 'What', 'When'),
    *('Where', 'Whether', 'Which', 'Who', 'Why'),
}
FILES = sorted(
    path for path in PACKAGE.rglob('*.py') if '.mim' not in path.parts
)


def first_words(text):
    """Line and first word of each docstring."""
    kinds = (
        ast.Module,
        ast.ClassDef,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
    )
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, kinds) and (words := ast.get_docstring(node)):
            yield getattr(node, 'lineno', 1), words.split()[0].strip('.,:;?')


def test_first_words_name_something():
    empty = []
    for path in FILES:
        name = path.relative_to(PACKAGE).as_posix()
        for line, word in first_words(path.read_text(encoding='utf-8')):
            if word in EMPTY:
                empty.append(f'{name}:{line}: {word}')
    assert not empty, '\n'.join(empty)


def test_what_the_reader_of_docstrings_sees():
    text = '"""See there."""\nclass A:\n    def f(self):\n        "Where?"\n'
    assert [*first_words(text)] == [(1, 'See'), (3, 'Where')]
