# Copyright (c) MotionMAE contributors. All rights reserved.
"""What is a video: by its extension, or because it can be decoded."""

import shutil
import wave

import numpy as np
import pytest
from PIL import Image

from mmmotionmae.datasets.annotation import find_videos, is_video, kind_of
from mmmotionmae.datasets.annotation.folders import walk
from mmmotionmae.datasets.annotation.kinds import _has_frames
from mmmotionmae.datasets.readers import list_frames
from mmmotionmae.utils.video_files import write_gif, write_video


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Files of many kinds, some under names that tell nothing."""
    root = tmp_path_factory.mktemp('kinds')
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), 'u1')
    write_video(root / 'a.mp4', frames)
    for name in ('film', 'film.dat', 'film.2024'):
        shutil.copy(root / 'a.mp4', root / name)
    write_gif(root / 'b.gif', frames, 5)
    Image.fromarray(frames[0]).save(root / 'still.webp')
    Image.fromarray(frames[0]).save(root / 'c.png')
    shutil.copy(root / 'c.png', root / 'photo')
    shutil.copy(root / 'still.webp', root / 'photo.2')
    with wave.open(str(root / 'sound.dat'), 'wb') as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    (root / 'notes').write_text('Some text, a line of it.\n' * 40)
    (root / 'notes.asciinema').write_text('\x1b[31mred\x1b[0m\n' * 40)
    (root / 'noise.bin').write_bytes(frames.tobytes())
    (root / 'empty').touch()
    return root


VIDEOS = ['a.mp4', 'b.gif', 'film', 'film.2024', 'film.dat']
KINDS = {
    'c.png': 'picture',
    'still.webp': 'picture',
    'notes': 'list',
    'notes.asciinema': 'list',
    'noise.bin': 'other',
    'sound.dat': 'other',
}


def test_videos_of_any_name(files):
    found = walk(str(files))
    assert found.paths == find_videos(str(files)) == VIDEOS
    others = {path.name for path in files.iterdir()} - set(VIDEOS)
    assert found.others == sorted(others) and not found.litter
    assert not is_video(str(files / 'missing.dat'))
    assert is_video(str(files / 'missing.mp4'))  # by its name


def test_kinds(files):
    assert {n: kind_of(str(files / n)) for n in KINDS} == KINDS
    assert {kind_of(str(files / name)) for name in VIDEOS} == {'video'}


def test_animated_pictures_are_videos_if_they_can_be_decoded(tmp_path):
    """As a reader has it, whatever the version of FFmpeg."""
    frames = [Image.new('RGB', (32, 32), (i * 60, 0, 0)) for i in range(4)]
    path = tmp_path / 'x.webp'
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert is_video(str(path)) == _has_frames(str(path))
    assert kind_of(str(path)) in ('video', 'picture')


def test_hidden_images_are_no_frames(tmp_path):
    for name in ('2.jpg', '._2.jpg', '10.jpg', '.DS_Store'):
        (tmp_path / name).touch()
    assert list_frames(str(tmp_path)) == ['2.jpg', '10.jpg']
