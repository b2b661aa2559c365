# Copyright (c) MotionMAE contributors. All rights reserved.
import pytest

from mmmotionmae.fileio import complete_file


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
