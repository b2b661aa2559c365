# Copyright (c) MotionMAE contributors. All rights reserved.
import os
import time
from pathlib import Path

import pytest

from mmmotionmae.utils import files
from mmmotionmae.utils.files import (
    complete_file,
    complete_files,
    complete_folder,
    set_aside,
)


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / 'a' / 'b.txt'
    with complete_file(path) as temporary:
        temporary.write_text('new')
        assert not path.exists()
    assert path.read_text() == 'new'
    assert list(path.parent.iterdir()) == [path]


def test_after_an_error_the_old_file_is_still_there(tmp_path):
    path = tmp_path / 'b.txt'
    path.write_text('old')
    with pytest.raises(RuntimeError, match='half way'):
        with complete_file(path) as temporary:
            temporary.write_text('ne')
            raise RuntimeError('half way')
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_set_aside_keeps_all_earlier_ones(tmp_path):
    path = tmp_path / 'run'
    date = time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))
    kept = []
    for number in range(3):
        path.mkdir()
        (path / 'file').write_text(str(number))
        os.utime(path, (date, date))
        kept.append(set_aside(path))
        assert not path.exists()
    names = [folder.name for folder in kept]
    name = 'run-20260102-030405'
    assert names == [name, f'{name}-1', f'{name}-2']
    assert [(folder / 'file').read_text() for folder in kept] == list('012')


def test_files_that_belong_together_appear_together(tmp_path):
    folder = tmp_path / 'a'
    with complete_files(folder, 'model', 'model.data') as made:
        for name in ('model', 'model.data'):
            (made / name).write_text('old')
        assert not (folder / 'model').exists()
    (folder / 'mine').write_text('mine')
    with pytest.raises(RuntimeError, match='half way'):
        with complete_files(folder, 'model', 'model.data') as made:
            (made / 'model').write_text('new')
            raise RuntimeError('half way')
    assert content(folder) == dict.fromkeys(['model', 'model.data'], 'old') | {
        'mine': 'mine'
    }
    with complete_files(folder, 'model', 'model.data') as made:
        (made / 'model').write_text('new')
    assert content(folder) == dict(model='new', mine='mine')


def test_a_folder_is_not_left_behind_empty(tmp_path):
    with pytest.raises(RuntimeError, match='half way'):
        with complete_files(tmp_path / 'a' / 'b', 'model'):
            raise RuntimeError('half way')
    assert not (tmp_path / 'a' / 'b').exists()


def write_folder(path, text):
    with complete_folder(path) as folder:
        (folder / 'file').write_text(text)


def test_a_folder_is_never_missing_while_it_is_replaced(tmp_path, monkeypatch):
    one, other = tmp_path / 'one', tmp_path / 'other'
    one.mkdir()
    other.mkdir()
    if not files._exchange(one, other):
        pytest.skip('this file system exchanges no names')
    rename = Path.rename
    renamed = []

    def record(self, target):
        renamed.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, 'rename', record)
    for text in ('old', 'new'):
        write_folder(tmp_path / 'a', text)
        assert content(tmp_path / 'a') == dict(file=text)
    assert renamed == ['new', 'new']  # only what is not yet seen
    (tmp_path / 'b').write_text('a file')
    write_folder(tmp_path / 'b', 'a folder')
    assert content(tmp_path / 'b') == dict(file='a folder')
    assert {path.name for path in tmp_path.iterdir()} == {
        *('a', 'b', 'one', 'other')
    }


def test_another_process_is_faster_with_a_folder(tmp_path, monkeypatch):
    """As often as it likes, on a file system that exchanges no names."""
    path, rename, others = tmp_path / 'a', Path.rename, ['x', 'y']
    monkeypatch.setattr(files, '_exchange', lambda *_: False)
    write_folder(path, 'old')

    def slow(self, target):
        done = rename(self, target)
        if self == path and others:
            path.mkdir()
            (path / 'file').write_text(others.pop())
        return done

    monkeypatch.setattr(Path, 'rename', slow)
    write_folder(path, 'new')
    assert others == [] and content(path) == dict(file='new')
    assert [*tmp_path.iterdir()] == [path]


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}
