# Copyright (c) MotionMAE contributors. All rights reserved.
"""`tools/benchmark.py data`, on clips of a few small frames."""

import json
import mmap
import os
import re
import statistics
from itertools import accumulate, count
from pathlib import Path

import av
import benchmark
import numpy as np
import pytest
from benchmarks import clips as clip_files
from benchmarks import data as tool
from benchmarks import data_paths, data_timing, memory
from benchmarks.data_floor import Floor
from benchmarks.data_report import memory_markdown
from helpers.fake_clock import FakeClock
from mmaction.datasets.transforms import SampleFrames

from mmmotionmae.apis import UsageError
from mmmotionmae.datasets.transforms import (
    FormatClip,
    VideoDecode,
    VideoInit,
)

READING = data_paths.Reading(clip_len=4, frame_interval=2, size=32)
SMALL = ['--clip-len=4', '--frame-interval=2', '--size=32']
SMALL += ['--num-samples=8', '--batch-size=4']
STAGES = ('open', 'decode', 'transform', 'collate')


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """Two clips of 24 frames, 64x48."""
    folder = tmp_path_factory.mktemp('clips')
    return clip_files.generate(folder, 2, width=64, height=48, num_frames=24)


def run(*argv, **kwargs):
    return tool.benchmark(tool.parse_args(argv), **kwargs)


def draws(number=6, videos=2):
    (batch,) = data_timing.draw_rounds(videos, 1, number)
    return batch


@pytest.fixture(scope='module')
def result(clips, tmp_path_factory):
    """Figures and table; each look at the clock takes longer."""
    folder = tmp_path_factory.mktemp('result')
    clock = accumulate(count(1.0)).__next__
    files = [f'--out={folder}/a.md', f'--json={folder}/a.json']
    argv = [f'--videos={clips.folder}', '--frames', *SMALL, *files]
    argv += ['--decoders', 'pyav', 'decord', '--repeats', '1', '3']
    result = run(*argv, clock=clock)
    assert (folder / 'a.md').read_text() == result['markdown'] + '\n'
    return json.loads((folder / 'a.json').read_text()), result['markdown']


def test_rows(result):
    figures, markdown = result
    videos, frames = figures['tables']
    floors = ['floor: decoding', 'floor: decoding to RGB']
    assert [row['name'] for row in videos['rows']] == [
        'stock MMAction2',
        'ours, pyav, R = 1',
        'ours, pyav, R = 3',
        'ours, decord, R = 1',
        'ours, decord, R = 3',
        *floors,
    ]
    assert [row['name'] for row in frames['rows']] == [
        'stock MMAction2',
        'ours, raw frames, R = 1',
        'ours, raw frames, R = 3',
        *floors,
    ]
    for row in [*videos['rows'], *frames['rows']]:
        assert f'| {row["name"]} | {row["clips_per_second"]:.1f} |' in markdown
    assert '2 generated clips' not in markdown  # they were given
    assert markdown.count('64x48') == 2
    assert figures['versions']['mmaction2'] == '1.2.0'
    assert figures['settings']['repeats'] == [1, 3]


@pytest.mark.parametrize('kind', [0, 1])
def test_figures_follow_from_the_rounds(result, kind):
    table = result[0]['tables'][kind]
    totals = {
        name: [r['total'] for r in rounds]
        for name, rounds in table['rounds'].items()
    }
    for row in table['rows']:
        own = totals[row['name']]
        assert len(own) == 2 and min(own) > 0
        assert row['ms_per_clip'] == pytest.approx(statistics.median(own))
        assert row['clips_per_second'] * row['ms_per_clip'] == (
            pytest.approx(1000)
        )
        ratios = [
            a / b for a, b in zip(totals['stock MMAction2'], own, strict=True)
        ]
        assert row['ratio_to_stock'] == pytest.approx(
            statistics.median(ratios)
        )
        # The floor of R clips is that of one decoding.
        floors = [
            ours * row['repeats'] / floor
            for ours, floor in zip(own, totals['floor: decoding'], strict=True)
        ]
        assert row['ratio_to_floor'] == pytest.approx(
            statistics.median(floors)
        )


def test_split_sums_to_the_total(result):
    for table in result[0]['tables']:
        for name, rounds in table['rounds'].items():
            for one in rounds:
                parts = [one[stage] for stage in STAGES if stage in one]
                assert sum(parts) == pytest.approx(one['total'], rel=1e-6)
                assert min(parts) >= 0
                if 'floor' not in name:
                    assert one['decode'] > 0 and one['transform'] > 0


@pytest.mark.parametrize('repeats', [1, 2])
def test_stages_are_told_apart(clips, monkeypatch, repeats):
    clock = FakeClock()
    for transform, seconds in (
        (VideoInit, 1),
        (VideoDecode, 2),
        (FormatClip, 4),
    ):
        method = clock.slow(transform.transform, seconds)
        monkeypatch.setattr(transform, 'transform', method)
    path = data_paths.our_path(clips, READING, 'pyav', repeats, clock)
    path.collate = clock.slow(path.collate, 48)
    for _ in range(2):  # no batch counts for the next one
        assert path.time(draws()) == dict(
            open=1000 / repeats,
            decode=2000 / repeats,
            transform=4000,
            collate=8000 / repeats,
            total=4000 + 11000 / repeats,
        )


def test_equal_tensors(result):
    for table in result[0]['tables']:
        assert table['differences'] == [] and table['num_compared'] == 8
    assert result[1].count('bit for bit') == 2


@pytest.mark.parametrize('repeats', [1, 2])
def test_different_tensors_are_noticed(clips, repeats):
    stock = data_paths.stock_path(clips, READING)
    ours = data_paths.our_path(clips, READING, 'opencv', repeats)
    assert data_paths.compare(stock, ours, draws()) == ''

    def tamper(results):
        if results['frame_inds'][0] % 2:  # in some samples only
            results['imgs'][0, 2, 1, 30, 4] += 128  # modulo 256
        return results

    transforms = ours.dataset.pipeline.transforms
    names = [type(transform).__name__ for transform in transforms]
    transforms.insert(names.index('FormatClip') + 1, tamper)
    first = [Floor(clips, READING, False).wanted(d, 24)[0] for d in draws()]
    odd = sum(frame % 2 for frame in first)
    assert 0 < odd < 6
    measured = data_timing.measure(clips, READING, stock, [ours], 1, 6)
    text = (
        f'ours, opencv, R = {repeats}: {odd} of 6 samples differ from stock '
        'MMAction2, by up to 128 grey levels'
    )
    assert measured.differences == [text]
    assert text in measured.markdown()
    assert 'bit for bit' not in measured.markdown()


def test_all_read_the_same_spans(clips):
    seen = {}

    def record(name, sample):
        def call(results):
            results = sample(results)
            seen.setdefault(name, []).append(results['frame_inds'].tolist())
            return results

        return call

    paths = [
        data_paths.stock_path(clips, READING),
        data_paths.our_path(clips, READING, 'pyav', 1),
        data_paths.our_path(clips, READING, 'decord', 2),
    ]
    for path in paths:
        transforms = path.dataset.pipeline.transforms
        (number,) = (
            i for i, t in enumerate(transforms) if isinstance(t, SampleFrames)
        )
        transforms[number] = record(path.name, transforms[number])
        path.time(draws())
    floor = Floor(clips, READING, False)
    spans = [floor.wanted(draw, 24) for draw in draws()]
    assert list(seen.values()) == [spans] * 3
    assert len({tuple(span) for span in spans}) > 3


@pytest.mark.parametrize(
    'codec,suffix', [('libx264', 'mp4'), ('mpeg4', 'avi'), ('libx264', 'mkv')]
)
def test_floor_decodes_what_is_wanted(tmp_path, codec, suffix):
    with av.open(str(tmp_path / f'a.{suffix}'), 'w') as container:
        stream = container.add_stream(
            codec, rate=30, options=dict(g='10', bf='2')
        )
        stream.width, stream.height, stream.pix_fmt = 32, 32, 'yuv420p'
        for step in range(40):
            frame = np.full((32, 32, 3), 5 * step, np.uint8)
            image = av.VideoFrame.from_ndarray(frame, 'rgb24')
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    source = clip_files.given_videos(
        str(tmp_path), None, tmp_path / 'links', 5
    )
    clock = count(0.0).__next__  # a second from one look to the next
    for rgb in (False, True):
        floor = Floor(source, READING, rgb, clock)
        for draw in draws(8, videos=1):
            assert floor.decoder_of(draw)() == READING.clip_len
        times = floor.time(draws(8, videos=1))
        assert times == dict(decode=1000, total=1000)


def test_loaders_hand_over_every_clip(clips, monkeypatch):
    monkeypatch.setattr(data_timing, 'LOADER_PASSES', 2)
    stock = data_paths.stock_path(clips, READING)
    ours = data_paths.our_path(clips, READING, 'pyav', 3)
    measured = data_timing.measure(
        clips, READING, stock, [ours], 2, 3, 1, count(0.0).__next__
    )
    # Two passes of six videos in a second; the one before does not count.
    assert measured.loader == {stock.name: [6, 6], ours.name: [18, 18]}
    assert measured.rows()[1]['loader_ratio_to_stock'] == 3
    assert 'loader, clips/s' in measured.markdown()


# ----------------------------------------------------------- what is read


def test_generated_clips_have_default_key_frames(tmp_path):
    path = tmp_path / 'clip.mp4'
    clip_files.write_clip(path, 0, 64, 48, num_frames=260)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        assert (stream.width, stream.height) == (64, 48)
        assert stream.average_rate == 30
    keys = [number for number, p in enumerate(packets) if p.is_keyframe]
    assert len(packets) == 260 and keys == [0, 250]


def test_list_with_prefix_and_spaces(clips, tmp_path):
    videos = tmp_path / 'my videos'
    videos.mkdir()
    for number, path in enumerate(clips.paths):
        (videos / f'a {number}.mp4').write_bytes(path.read_bytes())
    (tmp_path / 'list.txt').write_text('a 0.mp4 3\na 1.mp4 4\n')
    source = clip_files.given_videos(
        str(tmp_path / 'list.txt'), str(videos), tmp_path / 'links', 9
    )
    stock = data_paths.stock_path(source, READING)
    ours = data_paths.our_path(source, READING, 'pyav', 1)
    assert len(stock.dataset) == len(ours.dataset) == 2
    assert data_paths.compare(stock, ours, draws()) == ''
    some = clip_files.given_videos(str(videos), None, tmp_path / 'fewer', 1)
    assert len(some.paths) == 1


def test_folders_of_frames_are_taken_as_they_are(clips, tmp_path):
    frames = clip_files.extract_frames(clips, tmp_path / 'frames')
    one, other = sorted((tmp_path / 'frames').glob('clip*'))
    assert len(list(one.iterdir())) == len(list(other.iterdir())) == 24
    (frames.folder / 'list.txt').unlink()
    argv = [f'--videos={frames.folder}', '--frames', *SMALL]
    (table,) = run(*argv, '--repeats', '2')['tables']
    assert [row['name'] for row in table['rows']][:2] == [
        'stock MMAction2',
        'ours, raw frames, R = 2',
    ]
    assert table['differences'] == []


# --------------------------------------------------- what a user gets wrong


def test_files_are_not_overwritten(clips, tmp_path, capsys):
    file = tmp_path / 'old'
    file.write_text('precious')
    argv = ['data', f'--videos={clips.folder}', *SMALL]
    for flag in ('--json', '--out'):
        assert benchmark.main([*argv, f'{flag}={file}']) == 2
        error = capsys.readouterr().err
        assert error.startswith('error: ') and error.count('\n') == 1
        assert str(file) in error and '--overwrite' in error
        assert file.read_text() == 'precious'
    argv += [f'--out={file}', '--overwrite']
    argv += ['--decoders=pyav', '--repeats=1']
    assert benchmark.main(argv) == 0
    assert 'stock MMAction2' in file.read_text()


def test_unreadable_video(clips, tmp_path):
    (tmp_path / 'good.mp4').symlink_to(clips.paths[0])
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    with pytest.raises(UsageError, match='broken.mp4.*Leave it out'):
        run(f'--videos={tmp_path}', *SMALL)
    (tmp_path / 'list.txt').write_text('missing.mp4 0\n')
    with pytest.raises(UsageError, match='missing.mp4'):
        run(f'--videos={tmp_path}/list.txt', f'--prefix={tmp_path}', *SMALL)
    with pytest.raises(FileNotFoundError, match='nowhere'):
        run(f'--videos={tmp_path}/nowhere', *SMALL)


def test_numbers_that_make_no_sense(clips):
    argv = [f'--videos={clips.folder}', '--num-samples=4', '--batch-size=5']
    with pytest.raises(UsageError, match='less than one batch'):
        run(*argv)
    with pytest.raises(UsageError, match='at least 5000'):
        run(f'--videos={clips.folder}', '--leak-check=4999')
    with pytest.raises(SystemExit):
        tool.parse_args(['--repeats', '0'])


# ------------------------------------------------------------------ memory


class Samples:
    """Fifty samples; each keeps so many bytes for good."""

    def __init__(self, leak=0):
        self.leak = leak
        self.kept = []

    def __len__(self):
        return 50

    def __getitem__(self, index):
        assert 0 <= index < 50
        if self.leak:  # pages of its own, not what the heap has to spare
            pages = mmap.mmap(-1, self.leak, flags=mmap.MAP_PRIVATE)
            pages.write(b'x' * self.leak)
            self.kept.append(pages)
        return np.zeros(1000)


def own_memory(pid):
    """Less what is mapped from files: the system takes that as it needs."""
    text = Path(f'/proc/{pid}/status').read_text()
    found = re.findall(r'^(?:RssAnon|VmSwap):\s+(\d+) kB', text, re.M)
    assert len(found) == 2
    return 1024 * sum(map(int, found))


@pytest.fixture
def _own_memory(monkeypatch):
    monkeypatch.setattr(memory, 'resident_memory', own_memory)


def test_resident_memory():
    own = os.getpid()
    assert memory.resident_memory(own) >= 0.9 * own_memory(own) > 50e6
    with pytest.raises(UsageError, match='reads /proc'):
        memory.resident_memory(None)


def check(dataset):
    # Batches are small, so that it hardly counts how far the loader is ahead.
    return memory.check_memory(
        'it', dataset, list, num_samples=400, every=20, batch_size=2
    )


@pytest.mark.usefixtures('_own_memory')
def test_steady_memory():
    found = check(Samples())
    assert found.steady and len(found.rss) == 20
    assert abs(found.growth) < 0.02
    text = memory_markdown([found])
    assert '| it | 400 |' in text and text.endswith('| yes |')


@pytest.mark.usefixtures('_own_memory')
def test_growing_memory():
    found = check(Samples(leak=500_000))
    first, last = found.quarters
    # From the middle of the first to that of the last quarter are 14 looks.
    assert last - first == pytest.approx(14 * 20 * 500_000, rel=0.05)
    assert not found.steady and found.growth == last / first - 1
    assert memory_markdown([found]).endswith('| no |')
    assert found.as_dict()['steady'] is False


def test_quarters():
    rss = (900, 900, *[100] * 5, *[150] * 9, *[104] * 4)
    found = memory.MemoryCheck('it', 10, rss)
    assert found.quarters == (100, 104) and found.steady
    fallen = memory.MemoryCheck('it', 10, rss[:16] + (90,) * 4)
    assert fallen.growth == pytest.approx(-0.1) and not fallen.steady
