#!/usr/bin/env python
# Copyright (c) MotionMAE contributors. All rights reserved.
"""Turn the annotations that a data set's owners ship into lists.

A line of a list is a path and a label. `tools/data/README.md` leads through
each data set.
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mmmotionmae.utils.errors import UsageError


class Clip(NamedTuple):
    """One line of a list."""

    path: str  # where the owners put the file, relative
    label: int | None = None  # None: not published
    other_name: str = ''  # what the file is called in some copies

    def line(self) -> str:
        """How it is written in a list."""
        return self.path if self.label is None else f'{self.path} {self.label}'


class Annotations(NamedTuple):
    """What the owners' files say."""

    lists: dict[str, list[Clip]]  # by name, such as `train`
    classes: list[str]  # in the order of the labels


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Turn the annotations that the owners of a data set '
        'ship into lists of paths and labels.'
    )
    datasets = parser.add_subparsers(dest='dataset', required=True)
    for name, reader in READERS.items():
        sub = datasets.add_parser(name, description=f'Reads {reader.content}.')
        sub.add_argument(
            'annotations', type=Path, help=f'folder with {reader.content}'
        )
        sub.add_argument('out_dir', type=Path, help='where the lists go')
        sub.add_argument(
            '--videos',
            metavar='FOLDER',
            help='list what is below this folder only, with the paths found '
            'there; the name of a file counts, its sub-folder and its '
            'extension do not (default: list all, as the owners name them)',
        )
        sub.add_argument(
            '--overwrite', action='store_true', help='replace earlier lists'
        )
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> None:
    """Write the lists, ``classes.txt`` and what is missing.

    Args:
        args: What :func:`parse_args` returns.

    Raises:
        UsageError: If an annotation file is missing or not as expected, if
            there is no video at all, or if a file would be overwritten.
        FileNotFoundError: If ``--videos`` is no folder with videos.
    """
    folder, out_dir = args.annotations, args.out_dir
    if not folder.is_dir():
        raise UsageError(f'There is no folder {str(folder)!r}.')
    reader = READERS[args.dataset]
    lists, classes = reader.read(folder)
    outputs = [out_dir / 'classes.txt']
    for name in lists:
        outputs += [out_dir / f'{name}.txt', out_dir / f'{name}.missing.txt']
    for path in outputs:
        if path.exists() and not args.overwrite:
            raise UsageError(
                f'{str(path)!r} exists: choose another folder or pass '
                '--overwrite.'
            )
    missing: dict[str, list[str]] = {name: [] for name in lists}
    if args.videos:
        find = VideoFinder(args.videos, ignore_case=args.dataset == 'ucf101')
        for name, clips in lists.items():
            lists[name], missing[name] = find.keep(clips)
        if not any(lists.values()):
            wanted = next(path for paths in missing.values() for path in paths)
            raise UsageError(
                f'No video of the lists is below {args.videos!r}; the first '
                f'one looked for is {Path(wanted).stem!r}.'
            )
    for name, clips in lists.items():
        path = out_dir / f'{name}.txt'
        path_missing = path.with_suffix('.missing.txt')
        absent = missing[name]
        write_lines(path, [clip.line() for clip in clips])
        write_lines(path_missing, absent if clips else [])
        if not clips:
            note = f'not written, all {len(absent)} videos are missing'
        elif absent:
            note = f'{len(clips)} videos, {len(absent)} missing: '
            note += f'see {path_missing}'
        else:
            note = f'{len(clips)} videos'
        print(f'{path}: {note}')
    write_lines(out_dir / 'classes.txt', classes)
    print(f'{out_dir / "classes.txt"}: {len(classes)} classes')
    if len(classes) not in reader.num_classes:
        expected = ' or '.join(map(str, reader.num_classes))
        print(
            f'warning: {len(classes)} classes, not {expected}; are all '
            'annotation files there?',
            file=sys.stderr,
        )


class VideoFinder:
    """The videos below a folder, by name.

    Args:
        folder: Where to look.
        ignore_case: Whether ``A.mp4`` may be found as ``a``.

    Raises:
        FileNotFoundError: If the folder is missing or has no video.
    """

    def __init__(self, folder: str, ignore_case: bool = False) -> None:
        self.folder = folder
        self.ignore_case = ignore_case
        self._paths: dict[str, list[str]] = defaultdict(list)
        for path in find_videos(folder, tell=print):
            self._paths[self._key(path)].append(path)

    def _key(self, path: str) -> str:
        name = Path(path).stem
        return name.lower() if self.ignore_case else name

    def find(self, clip: Clip) -> str | None:
        """The file of a clip, or ``None``.

        Raises:
            UsageError: If several files have its name.
        """
        paths = self._paths.get(self._key(clip.path), [])
        if not paths and clip.other_name:
            paths = self._paths.get(self._key(clip.other_name), [])
        if len(paths) > 1:  # the same name in two classes?
            folder = Path(clip.path).parent.name
            paths = [
                p for p in paths if Path(p).parent.name == folder
            ] or paths
        if len(paths) > 1:
            raise UsageError(
                f'Two files below {self.folder!r} may be {clip.path!r}: '
                f'{paths[0]!r} and {paths[1]!r}. Move one of them away, or '
                'give --videos a folder with one of them.'
            )
        return paths[0] if paths else None

    def keep(self, clips: list[Clip]) -> tuple[list[Clip], list[str]]:
        """Split clips into those found, renamed, and paths not found."""
        found, missing = [], []
        for clip in clips:
            path = self.find(clip)
            if path is None:
                missing.append(clip.path)
            else:
                found.append(clip._replace(path=path))
        return found, missing


def read_kinetics(folder: Path) -> Annotations:
    """Read Kinetics: labels are the classes of ``train.csv``, sorted.

    Raises:
        UsageError: If a file is missing or not as expected.
    """
    rows = {
        'train': list(_kinetics_rows(_first_file(folder, 'train.csv'))),
        'val': list(
            _kinetics_rows(_first_file(folder, 'val.csv', 'validate.csv'))
        ),
    }
    if (folder / 'test.csv').is_file():
        rows['test'] = list(
            _kinetics_rows(folder / 'test.csv', need_label=False)
        )
    classes = sorted({row['label'] for _, row in rows['train']})
    labels = {name: label for label, name in enumerate(classes)}
    lists: dict[str, list[Clip]] = {name: [] for name in rows}
    for name in rows:
        for where, row in rows[name]:
            label = row.get('label')
            if label and label not in labels:
                raise UsageError(
                    f'{where}: the class {label!r} is not in train.csv; are '
                    'these files of one data set?'
                )
            try:
                start, end = (
                    int(float(row[key])) for key in ('time_start', 'time_end')
                )
            except ValueError:
                raise UsageError(
                    f'{where}: time_start and time_end must be seconds, not '
                    f'{row["time_start"]!r} and {row["time_end"]!r}.'
                ) from None
            video = row['youtube_id']
            lists[name].append(
                Clip(
                    f'{video}_{start:06d}_{end:06d}.mp4',
                    labels[label] if label else None,
                    other_name=f'{video}.mp4',
                )
            )
    return Annotations(lists, classes)


def _kinetics_rows(
    path: Path, need_label: bool = True
) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a csv file, each with the words for where it is."""
    columns = ['youtube_id', 'time_start', 'time_end']
    columns += ['label'] if need_label else []
    reader = csv.DictReader(
        read_text(path).splitlines(), skipinitialspace=True
    )
    absent = [c for c in columns if c not in (reader.fieldnames or [])]
    if absent:
        raise UsageError(
            f'{path}, line 1 must name the columns {", ".join(absent)}; it '
            f'has {reader.fieldnames}.'
        )
    for row in reader:
        where = f'{path}, line {reader.line_num}'
        if any(not row[column] for column in columns):
            raise UsageError(f'{where} lacks one of {", ".join(columns)}.')
        yield where, row


def read_sthv2(folder: Path) -> Annotations:
    """Read Something-Something V2: labels are those of ``labels.json``.

    Raises:
        UsageError: If a file is missing or not as expected.
    """
    path = _sthv2_file(folder, 'labels')
    templates = _json(path, dict)
    try:
        labels = {name: int(label) for name, label in templates.items()}
    except (TypeError, ValueError):
        labels = {}
    if not labels or sorted(labels.values()) != list(range(len(labels))):
        raise UsageError(
            f'{path} must give the classes the labels 0, 1, 2, ..., each once.'
        )
    files = {
        'train': _sthv2_file(folder, 'train'),
        'val': _sthv2_file(folder, 'validation'),
    }
    with suppress(UsageError):
        files['test'] = _sthv2_file(folder, 'test')
    lists: dict[str, list[Clip]] = {name: [] for name in files}
    for name, path in files.items():
        for number, item in enumerate(_json(path, list), 1):
            where = f'{path}, entry {number}'
            if not isinstance(item, dict) or 'id' not in item:
                raise UsageError(f'{where} has no id: {str(item)[:80]}')
            label = None
            if name != 'test':  # labels of the test set are not in it
                template = str(item.get('template', ''))
                template = template.replace('[', '').replace(']', '')
                if template not in labels:
                    raise UsageError(
                        f'{where} has the template {template!r}, which is '
                        'not in labels.json; are these files of one version?'
                    )
                label = labels[template]
            lists[name].append(Clip(f'{item["id"]}.webm', label))
    return Annotations(lists, sorted(labels, key=lambda name: labels[name]))


def _sthv2_file(folder: Path, name: str) -> Path:
    return _first_file(
        folder, f'{name}.json', f'something-something-v2-{name}.json'
    )


def _json(path: Path, kind: type) -> Any:
    """Read a file that holds a list or an object."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UsageError(
            f'{path}, line {error.lineno} is not JSON ({error.msg}); was the '
            'download complete?'
        ) from error
    if not isinstance(content, kind):
        raise UsageError(
            f'{path} must hold a {kind.__name__}, not a '
            f'{type(content).__name__}.'
        )
    return content


def read_ucf101(folder: Path) -> Annotations:
    """Read UCF101: labels are those of ``classInd.txt``, from 0 instead of 1.

    Raises:
        UsageError: If a file is missing or not as expected.
    """
    path = folder / 'classInd.txt'
    classes: list[str] = []
    for where, line in _lines(path):
        number, _, name = line.partition(' ')
        if number != str(len(classes) + 1) or not name:
            raise UsageError(
                f'{where} must be {len(classes) + 1} and a class, not '
                f'{line!r}.'
            )
        classes.append(name.strip())
    # HandstandPushups is written HandStandPushups in some places.
    labels = {name.lower(): label for label, name in enumerate(classes)}
    lists = {}
    for split in _splits(folder, 'trainlist{:02d}.txt', 'testlist{:02d}.txt'):
        for name, file_name in ('train', 'trainlist'), ('val', 'testlist'):
            clips = []
            for where, line in _lines(folder / f'{file_name}{split:02d}.txt'):
                video, _, number = line.partition(' ')
                label = labels.get(Path(video).parent.name.lower())
                if label is None:
                    raise UsageError(
                        f'{where}: the folder of {video!r} is no class of '
                        f'{path}.'
                    )
                if number and number.strip() != str(label + 1):
                    raise UsageError(
                        f'{where}: {video!r} is class {label + 1} of {path}, '
                        f'not {number.strip()}.'
                    )
                clips.append(Clip(video, label))
            lists[f'{name}_split{split}'] = clips
    return Annotations(lists, classes)


def read_hmdb51(folder: Path) -> Annotations:
    """Read HMDB51: labels are the classes, sorted.

    Raises:
        UsageError: If a file is missing or not as expected.
    """
    # Sorting the files instead would put `climb_stairs` before `climb`.
    classes = sorted(
        {
            p.name.split('_test_split')[0]
            for p in folder.glob('*_test_split?.txt')
        }
    )
    lists = {}
    for split in _splits(folder, '*_test_split{}.txt'):
        train: list[Clip] = []
        val: list[Clip] = []
        for label, name in enumerate(classes):
            for where, line in _lines(
                folder / f'{name}_test_split{split}.txt'
            ):
                video, _, use = line.rpartition(' ')
                if use not in ('0', '1', '2') or not video:
                    raise UsageError(
                        f'{where} must be a file and 0 (unused), 1 (train) '
                        f'or 2 (test), not {line!r}.'
                    )
                clip = Clip(f'{name}/{video.strip()}', label)
                if use != '0':
                    (train if use == '1' else val).append(clip)
        lists[f'train_split{split}'] = train
        lists[f'val_split{split}'] = val
    return Annotations(lists, classes)


def _splits(folder: Path, *patterns: str) -> list[int]:
    """Which of the splits 1 to 3 are there, at least one."""
    splits = [
        split
        for split in (1, 2, 3)
        if any(any(folder.glob(p.format(split))) for p in patterns)
    ]
    if not splits:
        raise UsageError(
            f'There is no {patterns[0].format(1)} in {str(folder)!r}; give '
            'the folder of the unpacked splits.'
        )
    return splits


def _first_file(folder: Path, *names: str) -> Path:
    """The first of some files that exists."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(f'There is no {" or ".join(names)} in {str(folder)!r}.')


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Stripped lines of a file that are not empty, and where they are."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            yield f'{path}, line {number}', line.strip()


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        UsageError: If there is none, or it is no text.
    """
    try:
        return path.read_text(encoding='utf-8-sig')
    except FileNotFoundError:
        raise UsageError(
            f'There is no {path.name} in {str(path.parent)!r}.'
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f'{str(path)!r} is no text file; is it still packed?'
        ) from error


def write_lines(path: Path, lines: list[str]) -> None:
    """Write a text file at once; without lines, there will be none."""
    if not lines:
        path.unlink(missing_ok=True)
        return
    with complete_file(path) as temporary:
        temporary.write_text(
            ''.join(f'{line}\n' for line in lines), encoding='utf-8'
        )


class Reader(NamedTuple):
    """How to read the annotations of a data set."""

    read: Callable[[Path], Annotations]
    content: str  # of the folder
    num_classes: tuple[int, ...]  # that it may have


READERS = dict(
    kinetics=Reader(
        read_kinetics,
        'train.csv, val.csv and, if there, test.csv',
        (400, 600, 700),
    ),
    sthv2=Reader(
        read_sthv2,
        'labels.json, train.json, validation.json and, if there, test.json',
        (174,),
    ),
    ucf101=Reader(
        read_ucf101,
        'classInd.txt, trainlist01.txt, testlist01.txt and so on',
        (101,),
    ),
    hmdb51=Reader(read_hmdb51, 'brush_hair_test_split1.txt and so on', (51,)),
)


if __name__ == '__main__':
    parse_args()  # help ends here: what follows takes seconds to import

from mmmotionmae.cli.running import run_tool
from mmmotionmae.datasets.annotation import find_videos
from mmmotionmae.utils.files import complete_file


def main() -> int:
    """Run, and turn a user's mistakes into one line."""
    return run_tool(lambda: convert(parse_args()))


if __name__ == '__main__':
    sys.exit(main())
