# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/data/convert_annotations.py`, on small files like the owners'."""

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from mmmotionmae.apis import UsageError
from mmmotionmae.datasets import RobustVideoDataset

TOOL = Path(__file__).parents[3] / 'tools/data/convert_annotations.py'


def load_tool(path=TOOL):
    spec = importlib.util.spec_from_file_location(f'{path.stem}_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONVERT = load_tool()


def convert(*argv):
    CONVERT.convert(CONVERT.parse_args([str(a) for a in argv]))


def write(folder, **files):
    """Write text files; `__` in a name stands for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace('__', '.')).write_text(text, encoding='utf-8')
    return folder


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def lines(path):
    return path.read_text(encoding='utf-8').splitlines()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def kinetics(tmp_path):
    head = 'label,youtube_id,time_start,time_end,split'
    return write(
        tmp_path / 'annotations',
        train__csv=f'{head},is_cc\n'
        '"zumba",---aaaaaaaa,0,10,train,0\n'
        'air drumming,Bbbbbbbbbbb,27,37,train,0\n'
        '"shooting goal (soccer)",bbbbbbbbbbb,1234,1244,train,1\n',
        val__csv=f'{head}\n'  # older files have no is_cc
        'air drumming,ccccccccccc,5.0,15.0,validate\n',
    )


@pytest.fixture
def sthv2(tmp_path):
    return write(
        tmp_path / 'labels',
        labels__json=json.dumps(
            {
                'Holding something': '1',
                'Approaching something with your camera': '0',
                'Tilting something with something on it': '2',
            }
        ),
        train__json=json.dumps(
            [
                {
                    'id': '78687',
                    'label': 'holding potato next to vicks',
                    'template': 'Tilting [something] with [something] on it',
                    'placeholders': ['a', 'b'],
                },
                {'id': '7', 'template': 'Holding [something]'},
            ]
        ),
        validation__json=json.dumps(
            [
                {
                    'id': '74225',
                    'template': 'Approaching [something] with your camera',
                }
            ]
        ),
        test__json=json.dumps([{'id': '1420'}]),
    )


@pytest.fixture
def ucf101(tmp_path):
    return write(
        tmp_path / 'splits',
        # With the line ends of Windows.
        classInd__txt='1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n3 YoYo\r\n',
        trainlist01__txt='ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\n'
        'HandStandPushups/v_HandStandPushups_g08_c01.avi 2\r\n'
        'YoYo/v_YoYo_g08_c01.avi 3\r\n',
        testlist01__txt='HandstandPushups/v_HandStandPushups_g01_c01.avi\r\n'
        'YoYo/v_YoYo_g01_c01.avi\r\n',
    )


@pytest.fixture
def hmdb51(tmp_path):
    return write(
        tmp_path / 'splits',
        climb_stairs_test_split1__txt='#1_Up!_climb_stairs_f_0.avi 1 \n',
        climb_test_split1__txt='Up_climb_f_0.avi 2 \n'
        'a;b&c(d)_climb_f_0.avi 1 \nUp_climb_f_1.avi 0 \n',
        climb_stairs_test_split2__txt='#1_Up!_climb_stairs_f_0.avi 2 \n',
        climb_test_split2__txt='Up_climb_f_0.avi 1 \n',
    )


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'data/out'


class TestKinetics:
    def test_lists_all_as_the_owners_name_them(self, kinetics, out):
        convert('kinetics', kinetics, out)
        assert lines(out / 'classes.txt') == [
            'air drumming',
            'shooting goal (soccer)',
            'zumba',
        ]
        assert lines(out / 'train.txt') == [
            '---aaaaaaaa_000000_000010.mp4 2',
            'Bbbbbbbbbbb_000027_000037.mp4 0',
            'bbbbbbbbbbb_001234_001244.mp4 1',
        ]
        assert lines(out / 'val.txt') == ['ccccccccccc_000005_000015.mp4 0']
        assert names(out) == ['classes.txt', 'train.txt', 'val.txt']

    def test_lists_what_is_there(self, kinetics, out, tmp_path, capsys):
        videos = touch(
            tmp_path / 'videos',
            'train/air drumming/Bbbbbbbbbbb_000027_000037.mkv',
            'train/shooting_goal_(soccer)/bbbbbbbbbbb.mp4',
            'val/ccccccccccc_000005_000015.mp4',
        )
        convert('kinetics', kinetics, out, '--videos', videos)
        assert lines(out / 'train.txt') == [
            'train/air drumming/Bbbbbbbbbbb_000027_000037.mkv 0',
            'train/shooting_goal_(soccer)/bbbbbbbbbbb.mp4 1',
        ]
        assert lines(out / 'train.missing.txt') == [
            '---aaaaaaaa_000000_000010.mp4'
        ]
        assert lines(out / 'val.txt') == [
            'val/ccccccccccc_000005_000015.mp4 0'
        ]
        assert not (out / 'val.missing.txt').exists()
        printed = capsys.readouterr()
        assert printed.out.splitlines() == [
            f'{out}/train.txt: 2 videos, 1 missing: '
            f'see {out}/train.missing.txt',
            f'{out}/val.txt: 1 videos',
            f'{out}/classes.txt: 3 classes',
        ]
        assert '3 classes, not 400 or 600 or 700' in printed.err

    def test_the_list_is_what_the_dataset_reads(self, kinetics, out, tmp_path):
        videos = touch(
            tmp_path / 'videos', 'air drumming/Bbbbbbbbbbb_000027_000037.mp4'
        )
        convert('kinetics', kinetics, out, '--videos', videos)
        dataset = RobustVideoDataset(
            pipeline=[],
            ann_file=str(out / 'train.txt'),
            data_prefix=dict(video=str(videos)),
        )
        info = dataset.get_data_info(0)
        assert Path(info['filename']).is_file()
        assert info['label'] == 0

    def test_a_test_set_without_labels(self, kinetics, out):
        write(
            kinetics,
            test__csv='youtube_id,time_start,time_end,split\n'
            'ddddddddddd,1,11,test\n',
        )
        convert('kinetics', kinetics, out)
        assert lines(out / 'test.txt') == ['ddddddddddd_000001_000011.mp4']

    def test_no_list_of_a_set_that_is_not_there(self, kinetics, out, tmp_path):
        videos = touch(tmp_path / 'videos', 'ccccccccccc.mp4')
        convert('kinetics', kinetics, out, '--videos', videos)
        assert names(out) == ['classes.txt', 'val.txt']
        assert lines(out / 'val.txt') == ['ccccccccccc.mp4 0']

    def test_a_file_that_is_there_twice(self, kinetics, out, tmp_path):
        videos = touch(
            tmp_path / 'videos',
            'a/Bbbbbbbbbbb_000027_000037.mp4',
            'b/Bbbbbbbbbbb_000027_000037.mp4',
        )
        with pytest.raises(UsageError, match='Two files below .*Move one'):
            convert('kinetics', kinetics, out, '--videos', videos)
        assert not out.exists()

    @pytest.mark.parametrize(
        ('name', 'text', 'message'),
        [
            ('val', 'a,b\n', "val.csv, line 1 must name .*has .'a', 'b'."),
            ('val', '', 'val.csv, line 1 must name'),
            (
                'val',
                'label,youtube_id,time_start,time_end\nx,y,0,10\n',
                "val.csv, line 2: the class 'x' is not in train.csv",
            ),
            (
                'train',
                'label,youtube_id,time_start,time_end\nx,y,0\n',
                'train.csv, line 2 lacks one of',
            ),
            (
                'train',
                'label,youtube_id,time_start,time_end\nx,y,0:01,0:11\n',
                "train.csv, line 2: .* seconds, not '0:01' and '0:11'",
            ),
        ],
    )
    def test_bad_files(self, kinetics, out, name, text, message):
        (kinetics / f'{name}.csv').write_text(text)
        with pytest.raises(UsageError, match=message):
            convert('kinetics', kinetics, out)
        assert not out.exists()


class TestSthv2:
    def test_labels_are_those_of_labels_json(self, sthv2, out):
        convert('sthv2', sthv2, out)
        assert lines(out / 'classes.txt') == [
            'Approaching something with your camera',
            'Holding something',
            'Tilting something with something on it',
        ]
        assert lines(out / 'train.txt') == ['78687.webm 2', '7.webm 1']
        assert lines(out / 'val.txt') == ['74225.webm 0']
        assert lines(out / 'test.txt') == ['1420.webm']

    def test_converted_videos_and_older_names(self, sthv2, out, tmp_path):
        for path in list(sthv2.iterdir()):
            path.rename(sthv2 / f'something-something-v2-{path.name}')
        videos = touch(tmp_path / 'mp4', '7.mp4', 'a/74225.webm')
        convert('sthv2', sthv2, out, '--videos', videos)
        assert lines(out / 'train.txt') == ['7.mp4 1']
        assert lines(out / 'train.missing.txt') == ['78687.webm']
        assert lines(out / 'val.txt') == ['a/74225.webm 0']

    @pytest.mark.parametrize(
        ('name', 'text', 'message'),
        [
            ('train', '[{"id"', 'train.json, line 1 is not JSON'),
            ('train', '{}', 'train.json must hold a list, not a dict'),
            ('train', '[{"a": 1}]', 'train.json, entry 1 has no id'),
            (
                'validation',
                '[{"id": "1", "template": "Eating [something]"}]',
                "validation.json, entry 1 .*'Eating something'",
            ),
            ('labels', '{"a": "0", "b": "2"}', 'labels.json must give'),
            ('labels', '{"a": "x"}', 'labels.json must give'),
        ],
    )
    def test_bad_files(self, sthv2, out, name, text, message):
        (sthv2 / f'{name}.json').write_text(text)
        with pytest.raises(UsageError, match=message):
            convert('sthv2', sthv2, out)

    def test_the_test_set_is_not_needed(self, sthv2, out):
        (sthv2 / 'test.json').unlink()
        convert('sthv2', sthv2, out)
        assert names(out) == ['classes.txt', 'train.txt', 'val.txt']

    def test_missing_file(self, sthv2, out):
        (sthv2 / 'validation.json').unlink()
        with pytest.raises(UsageError, match=r'There is no validation\.json'):
            convert('sthv2', sthv2, out)


class TestUCF101:
    def test_labels_start_at_0(self, ucf101, out):
        convert('ucf101', ucf101, out)
        assert lines(out / 'classes.txt') == [
            'ApplyEyeMakeup',
            'HandstandPushups',
            'YoYo',
        ]
        assert lines(out / 'train_split1.txt') == [
            'ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 0',
            'HandStandPushups/v_HandStandPushups_g08_c01.avi 1',
            'YoYo/v_YoYo_g08_c01.avi 2',
        ]
        assert lines(out / 'val_split1.txt') == [
            'HandstandPushups/v_HandStandPushups_g01_c01.avi 1',
            'YoYo/v_YoYo_g01_c01.avi 2',
        ]

    def test_case_of_names_does_not_matter(self, ucf101, out, tmp_path):
        videos = touch(
            tmp_path / 'videos',
            'HandstandPushups/v_HandstandPushups_g08_c01.avi',
            'HandstandPushups/v_HandStandPushups_g01_c01.avi',
        )
        convert('ucf101', ucf101, out, '--videos', videos)
        assert lines(out / 'train_split1.txt') == [
            'HandstandPushups/v_HandstandPushups_g08_c01.avi 1'
        ]
        assert lines(out / 'val_split1.txt') == [
            'HandstandPushups/v_HandStandPushups_g01_c01.avi 1'
        ]

    @pytest.mark.parametrize(
        ('name', 'text', 'message'),
        [
            ('classInd', '0 A\n1 B\n', 'classInd.txt, line 1 must be 1 and'),
            (
                'trainlist01',
                'YoYo/a.avi 1\n',
                'line 1: .* class 3 of .* not 1',
            ),
            ('testlist01', '\nNo/a.avi\n', 'line 2: the folder .* no class'),
            ('testlist01', 'a.avi\n', 'line 1: the folder .* no class'),
        ],
    )
    def test_bad_files(self, ucf101, out, name, text, message):
        (ucf101 / f'{name}.txt').write_text(text)
        with pytest.raises(UsageError, match=message):
            convert('ucf101', ucf101, out)

    def test_half_a_split(self, ucf101, out):
        write(ucf101, trainlist02__txt='YoYo/v_YoYo_g08_c01.avi 3\n')
        with pytest.raises(UsageError, match=r'There is no testlist02\.txt'):
            convert('ucf101', ucf101, out)


class TestHMDB51:
    def test_labels_follow_the_classes(self, hmdb51, out):
        convert('hmdb51', hmdb51, out)
        assert lines(out / 'classes.txt') == ['climb', 'climb_stairs']
        assert lines(out / 'train_split1.txt') == [
            'climb/a;b&c(d)_climb_f_0.avi 0',
            'climb_stairs/#1_Up!_climb_stairs_f_0.avi 1',
        ]
        assert lines(out / 'val_split1.txt') == ['climb/Up_climb_f_0.avi 0']
        assert lines(out / 'train_split2.txt') == ['climb/Up_climb_f_0.avi 0']
        assert lines(out / 'val_split2.txt') == [
            'climb_stairs/#1_Up!_climb_stairs_f_0.avi 1'
        ]

    def test_the_same_name_in_two_classes(self, hmdb51, out, tmp_path):
        videos = touch(
            tmp_path / 'videos',
            'climb/Up_climb_f_0.avi',
            'climb_stairs/Up_climb_f_0.avi',
        )
        convert('hmdb51', hmdb51, out, '--videos', videos)
        assert lines(out / 'train_split2.txt') == ['climb/Up_climb_f_0.avi 0']
        assert names(out) == [
            'classes.txt',
            'train_split2.txt',
            'val_split1.txt',
        ]

    def test_a_class_without_a_split(self, hmdb51, out):
        (hmdb51 / 'climb_test_split2.txt').unlink()
        with pytest.raises(UsageError, match=r'no climb_test_split2\.txt'):
            convert('hmdb51', hmdb51, out)

    @pytest.mark.parametrize('line', ['a.avi', 'a.avi 3', '1'])
    def test_bad_line(self, hmdb51, out, line):
        (hmdb51 / 'climb_test_split1.txt').write_text(f'b.avi 1\n{line}\n')
        with pytest.raises(UsageError, match='line 2 must be a file and 0'):
            convert('hmdb51', hmdb51, out)

    def test_no_splits(self, out, tmp_path):
        touch(tmp_path / 'empty', 'other.txt')
        with pytest.raises(UsageError, match=r'no \*_test_split1\.txt'):
            convert('hmdb51', tmp_path / 'empty', out)


def test_earlier_lists_are_kept_unless_told(ucf101, out, tmp_path):
    touch(out, 'train_split1.txt')
    with pytest.raises(UsageError, match='train_split1.txt.* exists.*--over'):
        convert('ucf101', ucf101, out)
    assert names(out) == ['train_split1.txt']
    videos = touch(tmp_path / 'videos', 'v_YoYo_g01_c01.avi')
    touch(out, 'train_split1.missing.txt')
    convert('ucf101', ucf101, out, '--videos', videos, '--overwrite')
    assert names(out) == [
        'classes.txt',
        'val_split1.missing.txt',
        'val_split1.txt',
    ]
    convert('ucf101', ucf101, out, '--overwrite')
    assert names(out) == ['classes.txt', 'train_split1.txt', 'val_split1.txt']


def test_other_videos(ucf101, out, tmp_path):
    videos = touch(tmp_path / 'videos', 'a.mp4')
    with pytest.raises(UsageError, match="'v_ApplyEyeMakeup_g08_c01'"):
        convert('ucf101', ucf101, out, '--videos', videos)
    assert not out.exists()


def test_packed_file(ucf101, out):
    (ucf101 / 'classInd.txt').write_bytes(b'Rar!\x1a\x07\xff\xfe')
    with pytest.raises(UsageError, match='is no text file'):
        convert('ucf101', ucf101, out)


def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys):
    argv = ['hmdb51', str(tmp_path / 'none'), str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', ['tool', *argv])
    assert CONVERT.main() == 2
    error = capsys.readouterr().err
    assert error.startswith('error: There is no folder')
    assert error.count('\n') == 1


def test_no_such_videos(ucf101, out, tmp_path, monkeypatch, capsys):
    argv = ['ucf101', str(ucf101), str(out), '--videos', str(tmp_path / 'no')]
    monkeypatch.setattr(sys, 'argv', ['tool', *argv])
    assert CONVERT.main() == 2
    assert capsys.readouterr().err.startswith('error: There is no folder')


@pytest.mark.parametrize(
    'tool',
    [
        'build_file_list',
        'check_videos',
        'convert_annotations',
        'resize_videos',
    ],
)
def test_commands_of_the_guides(tool):
    """They have the arguments that the tools take."""
    data = TOOL.parent
    guides = [data / 'README.md', *data.glob('*/README.md')]
    assert len(guides) == 8
    text = '\n'.join(guide.read_text(encoding='utf-8') for guide in guides)
    commands = re.findall(
        rf'^ *python tools/data/{tool}\.py (.*)$',
        text.replace('\\\n', ''),
        re.MULTILINE,
    )
    assert commands
    for command in commands:
        load_tool(data / f'{tool}.py').parse_args(shlex.split(command))
