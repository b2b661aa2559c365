# Copyright (c) MotionMAE contributors. All rights reserved.
import json

import pytest

from mmmotionmae.utils.errors import UsageError
from mmmotionmae.utils.progress import (
    CARD,
    RecordFile,
    claim_folder,
    read_records,
)

RECORDS = [
    (dict(name='é', values=[1, 0.1, None]), b''),
    (dict(bad={}), b'\n{"crc": 0}\n\0'),
    ({}, b'x'),
]


def write(path, records=RECORDS):
    with RecordFile(path) as file:
        found = list(file.read())
        for entry, data in records:
            file.add(entry, data)
    return found


def read(path):
    with open(path, 'rb') as file:
        return list(read_records(file))


def test_records_come_back(tmp_path):
    path = tmp_path / 'a' / 'b.log'
    assert write(path) == []
    assert read(path) == RECORDS
    assert write(path) == RECORDS
    assert read(path) == RECORDS * 2


def test_records_without_bytes_are_lines_of_json(tmp_path):
    path = tmp_path / 'b.jsonl'
    write(path, RECORDS[:1] * 2)
    for line in path.read_text().splitlines():
        assert json.loads(line).items() >= RECORDS[0][0].items()


def test_half_a_record_is_overwritten_wherever_it_ends(tmp_path):
    path = tmp_path / 'b.log'
    write(path, RECORDS[:1])
    start = path.stat().st_size
    write(path, RECORDS[1:2])
    whole = path.read_bytes()
    for stop in range(start, len(whole)):
        path.write_bytes(whole[:stop])
        assert write(path, RECORDS[1:]) == RECORDS[:1], stop
        assert read(path) == RECORDS, stop


def test_no_bit_may_be_wrong(tmp_path):
    path = tmp_path / 'b.log'
    write(path, RECORDS[:2])
    whole = path.read_bytes()
    for place in range(len(whole)):
        spoilt = bytes([whole[place] ^ 4])
        path.write_bytes(whole[:place] + spoilt + whole[place + 1 :])
        assert read(path) in ([], RECORDS[:1]), place


@pytest.mark.parametrize('tail', [b'\0' * 50, b'3\n', b'[]\n', b'{}\n'])
def test_what_is_no_record_is_not_read(tmp_path, tail):
    path = tmp_path / 'b.log'
    write(path)
    path.write_bytes(path.read_bytes() + tail)
    assert write(path, RECORDS[:1]) == RECORDS
    assert read(path) == RECORDS + RECORDS[:1]


def test_a_record_that_the_reader_refuses_is_overwritten(tmp_path):
    path = tmp_path / 'b.log'
    write(path)
    with RecordFile(path) as file:
        for entry, _ in file.read():
            if 'bad' in entry:
                break
        file.add(dict(new=True))
    assert read(path) == [RECORDS[0], (dict(new=True), b'')]


def test_a_locked_file_is_refused(tmp_path):
    path = tmp_path / 'b.log'
    with RecordFile(path) as one, RecordFile(path) as other:
        one.lock()
        with pytest.raises(UsageError, match=r'Another process .*b\.log'):
            other.lock()
        one.close()
        other.lock()


def test_a_folder_is_claimed_once(tmp_path):
    folder = tmp_path / 'a' / 'b'
    card = dict(fingerprint=dict(model=dict(depth=12)), date='today')
    assert claim_folder(folder, card, in_use=True).startswith(
        f'there is no {CARD}'
    )
    assert not folder.exists()
    assert claim_folder(folder, card, in_use=False) == ''
    later = dict(card, date='tomorrow')
    assert claim_folder(folder, later, in_use=True) == ''
    assert json.loads((folder / CARD).read_text()) == card
    other = dict(fingerprint=dict(model=dict(depth=24)))
    assert claim_folder(folder, other, in_use=False) == 'model.depth: 12 -> 24'
