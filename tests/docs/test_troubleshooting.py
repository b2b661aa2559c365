# Copyright (c) MotionMAE contributors. All rights reserved.
"""The page of errors has each text that the source can say, and no other."""

import ast
import re
from functools import cache

import error_texts as tool
import pytest
from conftest import ROOT

PAGE = tool.PAGE
SOURCES = sorted(
    path
    for folder in ('mmmotionmae', 'tools')
    for path in (ROOT / folder).rglob('*.py')
    if '.mim' not in path.parts
)
# Those of other programs, and of argparse.
FOREIGN = {'--shm-size', '--help'}


@cache
def rows():
    """Three cells of each row."""
    lines = PAGE.read_text().splitlines()
    return [
        re.split(r' (?<!\\)\| ', line[2:-2])
        for line in lines
        if line.startswith('| `')
    ]


def test_the_page_has_each_error_once_and_no_other():
    page = tool.texts_of_page(PAGE.read_text())
    found = tool.read_texts()
    assert len(found) > 600
    missing = [tool.row_of([text]) for text in found if text not in page]
    gone = [text for text in page if text not in found]
    assert not missing, '\n'.join(missing)
    assert not gone, '\n'.join(gone)
    assert len(page) == len(set(page))


def test_no_literal_of_a_raise_is_lost():
    """Seen without following anything: words in quotes after ``raise``."""
    page = PAGE.read_text().replace(r'\|', '|')
    lost, number = [], 0
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Raise):
                continue
            for part in ast.walk(node):
                text = getattr(part, 'value', None)
                if not isinstance(part, ast.Constant) or not isinstance(
                    text, str
                ):
                    continue
                text = ' '.join(text.split())
                if len(re.findall(r'\w+', text)) >= 3:
                    number += 1
                    if text not in page:
                        lost.append(f'{path}:{node.lineno}: {text}')
    assert number > 500
    assert not lost, '\n'.join(lost)


def test_rows_are_filled_in():
    assert len(rows()) > 200
    for row in rows():
        assert len(row) == 3, row
        assert all(cell.strip() for cell in row), row
        assert row[1] != row[2], row


def test_flags_of_the_ways_out_exist():
    named = {
        flag
        for row in rows()
        for flag in re.findall(r'--[a-z][\w-]*', ' '.join(row[1:]))
    }
    written = '\n'.join(path.read_text() for path in SOURCES)
    known = set(re.findall(r"'(--[a-z][\w-]*)'", written))
    # Options that are made of the fields of a class: name='help'.
    fields = re.findall(r"^    ([a-z]+(?:_[a-z]+)+)='", written, flags=re.M)
    known |= {f'--{name.replace("_", "-")}' for name in fields}
    assert len(named) > 30
    assert named - FOREIGN <= known


SOURCE = '''
LIMIT = 3
WORDS = 'known by name'

def helper(name, reason):
    raise SomeError(f'{name} is refused: {reason}.')

def first(x, flag):
    if x:
        raise ValueError('a plain ' 'text')
    if flag:
        raise ValueError(f'{x} is ' + ('odd here' if flag else 'even here'))
    text = f'more than {LIMIT} of them'
    text += f', in {x}'
    raise OtherError(text)

def second(parser):
    helper('a', 'it has no head'), helper('c', error)
    helper('b', reason=f'it has {LIMIT} tails')
    parser.error('--one and --two')
    logger.error('this is no error of ours')
    print(f'error: {explain(1)}')
    raise ValueError(str(error))
    raise ValueError

def explain(x):
    """A docstring that is no text."""
    if x:
        return WORDS
    return f'no name {x}'

class Thing:
    def __init__(self):
        self.reason = 'it is kept here'

    def fail(self):
        raise AError(f'Failed: {self.reason}')

    @abstractmethod
    def rest(self):
        raise NotImplementedError
'''


def test_what_is_read_of_a_source(tmp_path):
    path = tmp_path / 'source.py'
    path.write_text(SOURCE)
    found = {text: line for text, _, line in tool.Sources([path]).texts()}
    assert found == {
        '… is refused: it has no head.': 6,
        '… is refused: it has … tails.': 6,
        '… is refused: ….': 6,
        'a plain text': 10,
        '… is odd here': 12,
        '… is even here': 12,
        'more than … of them': 15,
        '…, in …': 15,
        '--one and --two': 20,
        'known by name': 22,
        'no name …': 22,
        'Failed: it is kept here': 37,
    }


def test_many_forms_are_told_one_by_one(tmp_path):
    path = tmp_path / 'source.py'
    words = [f'word number {i}' for i in range(5)]
    calls = '\n'.join(f'helper({word!r})' for word in words)
    path.write_text(
        f"def helper(x):\n    raise AError(f'no {{x}}')\n{calls}\n"
    )
    texts = [text for text, _, _ in tool.Sources([path]).texts()]
    assert texts == ['no …', *words]


@pytest.mark.parametrize(
    'text', ['plain …', 'a | b', '`x` or `y`', 'ends in `x`', "`--a`'s"]
)
def test_rows_are_read_as_they_are_written(text):
    row = tool.row_of([text, 'another'], 'cause', 'way out')
    assert tool.texts_of_page(f'x\n{row}\ny\n') == [text, 'another']


def test_what_is_missing_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['error_texts.py'])
    monkeypatch.setattr(
        tool, 'read_texts', lambda: {'new': ['a.py:1', 'b.py:2'], 'old': []}
    )
    monkeypatch.setattr(tool, 'PAGE', tmp_path / 'page.md')
    tool.PAGE.write_text(f'{tool.row_of(["old", "gone"], "x", "y")}\n')
    assert tool.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        'missing, a.py:1, b.py:2:',
        '| `new` |  |  |',
        'gone:',
        '| `gone` |  |  |',
    ]
    tool.PAGE.write_text(f'{tool.row_of(["old", "new"], "x", "y")}\n')
    assert tool.main() == 0
    assert not capsys.readouterr().out
