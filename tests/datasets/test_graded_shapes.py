# Copyright (c) MotionMAE contributors. All rights reserved.
"""Tests of the graded difficulty of Moving Shapes."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import decord
import numpy as np
import numpy.typing as npt
import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from PIL import Image

from mmmotionmae.datasets.moving_shapes import (
    DIRECTIONS,
    LEVELS,
    Level,
    Light,
    MovingObject,
    Scene,
    Texture,
    render,
    sample_scene,
    sample_vos_scene,
    write_dataset,
)

Array = npt.NDArray[Any]
HARD = [1, 2, 3]
GREY = ((100.0,) * 3,) * 4
BLACK, WHITE = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)
# Wave numbers of stripes, checks, wood and marble.
WAVES = {
    1: ((5.0, 2.0),),
    2: ((5.0, 2.0), (-2.0, 5.0)),
    4: ((9.0, 2.0), (11.0, 3.0), (8.0, 3.0), (12.0, 5.0)),
    7: ((9, 1), (7, 5), (2, 10), (-3, 8), (-6, 9), (-9, 4), (-12, 1)),
}


def cover(count: int, *palette: tuple[float, ...]) -> Texture:
    """A texture of so many waves."""
    phases = (0.3, 1.1, 2.9, 4.0, 5.0, 6.0, 0.0)[:count]
    return Texture(WAVES[count], phases, palette)


def decode(path: Path) -> Array:
    reader = decord.VideoReader(str(path), num_threads=1)
    return np.asarray(reader.get_batch(range(len(reader))).asnumpy())


def vos_scenes(level: int, count: int) -> list[Scene]:
    return [
        sample_vos_scene(np.random.default_rng(i), i % 2 + 1, LEVELS[level])
        for i in range(count)
    ]


# What a scene is made of, against closed forms


@pytest.mark.parametrize('count', WAVES)
def test_all_textures_have_one_distribution_of_colours(count: int) -> None:
    scene = Scene(GREY, (), texture=cover(count, BLACK, WHITE))
    ((frame,), _) = render(scene, 1, 256)
    shares = np.linspace(0.05, 0.95, 19)
    assert np.quantile(frame, shares) / 255 == pytest.approx(shares, abs=0.03)


def test_palette_is_interpolated_along_the_ranks() -> None:
    red, green = (200.0, 0.0, 0.0), (0.0, 200.0, 0.0)
    scene = Scene(GREY, (), texture=cover(1, red, BLACK, green))
    frame = render(scene, 1, 128)[0][0].astype(int)
    assert (
        not (frame[..., 0] * frame[..., 1]).any() and not frame[..., 2].any()
    )
    # The rank of one wave is the arcsine law.
    x, y = (np.arange(128) + 0.5) / 128, (np.arange(128)[:, None] + 0.5) / 128
    wave = np.cos(2 * np.pi * (5 * x + 2 * y) + 0.3)
    rank = 0.5 + np.arcsin(wave) / np.pi
    expected = np.stack([1 - 2 * rank, 2 * rank - 1, 0 * rank], -1).clip(0)
    assert np.abs(frame - 200 * expected).max() < 5


def test_a_panning_camera_moves_everything_across_the_border() -> None:
    pan = (3 / 64, -2 / 64)
    things = [
        MovingObject(
            *('cross', WHITE, 0.4, (0.9, 0.3), pan),
            texture=cover(4, BLACK, WHITE),
            labelled=labelled,
        )
        for labelled in (True, False)
    ]
    things[1] = dataclasses.replace(things[1], position=(0.2, 0.6))
    scene = Scene(
        GREY, tuple(things), texture=cover(2, BLACK, WHITE), camera=pan
    )
    frames, masks = render(scene, 6, 64)
    assert np.unique(masks).tolist() == [0, 1]
    for t in range(6):
        shift = (-2 * t, 3 * t)
        moved = np.roll(frames[0], shift, (0, 1)).astype(int)
        assert np.abs(frames[t] - moved).max() <= 2
        assert np.array_equal(masks[t], np.roll(masks[0], shift, (0, 1)))


def test_a_texture_turns_and_grows_with_its_object() -> None:
    disc = MovingObject(
        *('disc', WHITE, 0.5, (0.5, 0.5)),
        spin=math.pi / 2,
        texture=cover(1, BLACK, WHITE),
    )
    first, second = render(Scene(GREY, (disc,)), 2, 64)[0].astype(int)
    # Clockwise on the screen; rot90 turns the other way.
    assert np.abs(np.rot90(first, -1) - second).mean() < 0.5
    grown = dataclasses.replace(disc, spin=0.0, zoom=2.0)
    first, second = render(Scene(GREY, (grown,)), 2, 64)[0].astype(int)
    doubled = first[16:48, 16:48].repeat(2, 0).repeat(2, 1)
    assert np.abs(doubled - second).mean() < 12 < np.abs(first - second).mean()


def test_light_is_a_plane_that_changes_linearly() -> None:
    light = Light(first=(1.0, 0.2, -0.4), last=(0.6, 0.0, 0.4))
    frames, _ = render(Scene(GREY, (), light=light), 5, 16)
    x = (np.arange(16) + 0.5) / 16 - 0.5
    for t, share in enumerate(np.linspace(0, 1, 5)):
        level, right, down = (
            (1 - share) * a + share * b
            for a, b in zip(light.first, light.last, strict=True)
        )
        plane = 100 * (level + right * x + down * x[:, None])
        assert np.abs(frames[t] - plane[..., None]).max() <= 0.51


def test_noise_is_white_and_new_in_each_frame() -> None:
    frames, _ = render(Scene(GREY, (), noise=8.0, noise_seed=3), 4, 64)
    noise = frames - 100.0
    assert noise.std() == pytest.approx(8, rel=0.03)
    assert abs(noise.mean()) < 0.2
    for other in (
        np.roll(noise, 1, 0),
        np.roll(noise, 1, 1),
        np.roll(noise, 1, 2),
        np.roll(noise, 1, 3),
    ):
        assert abs((noise * other).mean()) < 64 * 0.03
    again, _ = render(Scene(GREY, (), noise=8.0, noise_seed=3), 4, 64)
    assert np.array_equal(frames, again)


# Masks


def inside(obj: MovingObject, t: int, last: int, x: Array, y: Array) -> Array:
    """Whether points are in an object, by its inequalities."""
    zoom = obj.zoom ** (t / last - 0.5)
    centre = np.array(obj.position)
    if obj.bounce:  # step by step, reflected at the walls
        low = 0.5 * obj.diameter * max(obj.zoom, 1 / obj.zoom) ** 0.5
        velocity = np.array(obj.velocity)
        for _ in range(t):
            centre = centre + velocity
            for axis in (0, 1):
                for wall in (low, 1 - low):
                    if (centre[axis] - wall) * (wall - 0.5) > 0:
                        centre[axis] = 2 * wall - centre[axis]
                        velocity[axis] *= -1
        x, y = x - centre[0], y - centre[1]
    else:  # the nearest of the copies; none is wider than the frame
        centre = centre + t * np.array(obj.velocity)
        x, y = (
            (v - c + 0.5) % 1 - 0.5
            for v, c in zip((x, y), centre, strict=True)
        )
    point = (x + 1j * y) * np.exp(-1j * (obj.angle + t * obj.spin))
    point /= obj.diameter * zoom
    a, b = np.abs(point.real), np.abs(point.imag)
    if obj.shape == 'disc':
        return np.abs(point) <= 0.5
    if obj.shape == 'square':  # its first corner is on the x axis
        return a + b <= 0.5
    if obj.shape == 'triangle':
        sides = [point * np.exp(1j * k * np.pi / 3) for k in (1, 3, 5)]
        return np.all([side.real <= 0.25 for side in sides], axis=0)
    if obj.shape == 'cross':
        arm = 2.5 / (2 * math.hypot(2.5, 1))
        return (np.maximum(a, b) <= arm) & (np.minimum(a, b) <= arm / 2.5)
    half = 1 / (2 * math.hypot(6, 1))
    return (a <= 6 * half) & (b <= half)


@pytest.mark.parametrize('level', range(len(LEVELS)))
def test_masks_are_those_of_the_geometry(level: int) -> None:
    """In every pixel whose 16 points have one owner."""
    size, last = 32, 11
    rng = np.random.default_rng(level)
    scenes = vos_scenes(level, 6) + [
        sample_scene(rng, motion, level=LEVELS[level])
        for motion in ('left', 'down-right', 'rotate-ccw', 'approach')
    ]
    fine = (np.arange(4 * size) + 0.5) / (4 * size)
    checked = []
    for scene in scenes:
        _, masks = render(scene, last + 1, size)
        assert masks.any()
        for t in (0, 6, last):
            owner = np.zeros((4 * size, 4 * size), int)
            ids = 0
            for obj in scene.objects:
                ids += obj.labelled
                place = inside(obj, t, last, fine, fine[:, None])
                owner[place] = ids if obj.labelled else 0
            blocks = owner.reshape(size, 4, size, 4).swapaxes(1, 2)
            blocks = blocks.reshape(size, size, 16)
            sure = blocks.min(-1) == blocks.max(-1)
            checked.append(sure.mean())
            assert np.array_equal(masks[t][sure], blocks[sure][:, 0])
    assert np.mean(checked) > 0.9


@pytest.mark.parametrize('level', range(len(LEVELS)))
def test_masks_are_where_the_objects_are_drawn(level: int) -> None:
    """Flat and without noise, one object white and all else black."""
    for scene in vos_scenes(level, 4):
        _, masks = render(scene, 8, 64)
        labelled = [i for i, o in enumerate(scene.objects) if o.labelled]
        for mask_id, shown in enumerate(labelled, start=1):
            objects = tuple(
                dataclasses.replace(
                    obj, texture=None, color=WHITE if i == shown else BLACK
                )
                for i, obj in enumerate(scene.objects)
            )
            flat = Scene((BLACK,) * 4, objects)
            frames, same = render(flat, 8, 64)
            assert np.array_equal(masks, same)
            share = frames[..., 0] / 255
            sure = np.abs(share - 0.5) > 0.25
            assert np.array_equal((masks == mask_id)[sure], share[sure] > 0.5)
            assert sure.mean() > 0.97
            # It can be seen in the first frame.
            assert (masks[0] == mask_id).sum() > 40


# The labels are the motion


@pytest.mark.parametrize('level', HARD)
def test_the_class_is_the_motion_over_the_background(level: int) -> None:
    for seed, motion in enumerate(DIRECTIONS):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng, motion, level=LEVELS[level])
        (obj,) = [o for o in scene.objects if o.labelled]
        for other in scene.objects:
            still = other.velocity == scene.camera and not other.spin
            assert still != other.labelled
        # Without the bars the centre of the mask is that of the object.
        visible = tuple(o for o in scene.objects if o.shape != 'bar')
        bare = dataclasses.replace(scene, objects=visible)
        _, masks = render(bare, 12, 64)
        wave = np.exp(2j * np.pi * (np.arange(64) + 0.5) / 64)
        steps = []
        for axis in ((masks > 0) * wave, (masks > 0) * wave[:, None]):
            angle = np.unwrap(np.angle(axis.sum((1, 2))))
            steps.append(np.diff(angle).mean() / (2 * np.pi))
        step = complex(*steps) - complex(*scene.camera)
        assert 0.059 < abs(step) < 0.101
        unit = np.exp(0.25j * np.pi * seed)
        assert abs(np.angle(step / unit)) < math.radians(3)


@pytest.mark.parametrize('level', HARD)
def test_appearance_does_not_depend_on_the_direction(level: int) -> None:
    first = [
        render(
            sample_scene(
                np.random.default_rng(5), motion, level=LEVELS[level]
            ),
            *(1, 32),
        )[0]
        for motion in DIRECTIONS
    ]
    assert all(np.array_equal(first[0], frame) for frame in first)


# Determinism and difficulty


@pytest.mark.parametrize('level', range(len(LEVELS)))
def test_scenes_are_seeded(level: int) -> None:
    for sample, what in ((sample_scene, 'left'), (sample_vos_scene, 2)):
        scenes = [
            sample(np.random.default_rng(seed), what, level=LEVELS[level])
            for seed in (1, 1, 2)
        ]
        assert scenes[0] == scenes[1] != scenes[2]
        videos = [render(scene, 3, 32)[0].astype(int) for scene in scenes]
        assert np.array_equal(videos[0], videos[1])
        assert np.abs(videos[0] - videos[2]).mean() > 10
    assert (LEVELS[level] == Level()) == (level == 0)


def test_each_part_of_a_level_can_be_had_alone() -> None:
    def sample(**parts: Any) -> Scene:
        rng = np.random.default_rng(0)
        return sample_vos_scene(rng, 2, Level(**parts))

    flat = sample()
    assert len(flat.objects) == 2 and flat == sample(textured=False)
    assert not any(obj.texture for obj in sample(clutter=2).objects)
    assert len(sample(clutter=2).objects) == 4
    assert len(sample(distractors=3).objects) == 5
    assert [o.shape for o in sample(occluders=1).objects][-1] == 'bar'
    assert sample(noise=4.0).noise == 4 and sample(light=0.2).light
    speed = math.hypot(*sample(camera=1.0).camera)
    assert 0.3 * 0.025 <= speed <= 0.025
    textured = sample(textured=True)
    assert all(obj.texture for obj in textured.objects) and textured.texture
    palettes = {obj.texture.palette for obj in textured.objects if obj.texture}
    assert palettes == {textured.texture.palette}
    # Distractors are twins of the objects, elsewhere, and not in the masks.
    *twins, first, second = sample(textured=True, distractors=3).objects
    for twin, obj in zip(twins, (first, second, first), strict=True):
        assert not twin.labelled and obj.labelled
        assert twin.position != obj.position
        changed = dict(position=0, velocity=0, angle=0, spin=0, zoom=0)
        changed['labelled'] = 0
        parts = vars(twin).keys() - changed
        assert all(getattr(twin, p) == getattr(obj, p) for p in parts)


def told_by_colour(frames: Array, masks: Array) -> float:
    """How well the first frame's colours find the objects in the last one.

    Returns:
        The area under the ROC curve of the share of object pixels among
        those of one colour (of 8 x 8 x 8) in the first frame; 0.5 is chance.
    """
    bins = (frames // 32).astype(int) @ np.array([64, 8, 1])
    on = masks > 0
    total = np.bincount(bins[0].ravel(), minlength=512)
    objects = np.bincount(bins[0][on[0]], minlength=512)
    share = (objects + on[0].mean()) / (total + 1)
    scores = share[bins[-1]]
    positive, negative = np.sort(scores[on[-1]]), np.sort(scores[~on[-1]])
    below = np.searchsorted(negative, positive, 'left')
    upto = np.searchsorted(negative, positive, 'right')
    return float((below + upto).mean() / (2 * len(negative)))


def test_colours_tell_the_object_at_level_0_only() -> None:
    areas = [
        np.mean(
            [told_by_colour(*render(s, 6, 64)) for s in vos_scenes(level, 12)]
        )
        for level in range(4)
    ]
    assert areas[0] > 0.97
    assert max(areas[1:]) < 0.65


def overlap(prediction: Array, truth: Array) -> float:
    """Mean region similarity over the objects, without the first frame."""
    values = []
    for mask_id in range(1, truth[0].max() + 1):
        a, b = prediction[1:] == mask_id, truth[1:] == mask_id
        both, either = (a & b).sum((1, 2)), (a | b).sum((1, 2))
        values.append((both / np.maximum(either, 1))[either > 0].mean())
    return float(np.mean(values))


class TextureEnergy(torch.nn.Module):
    """Features that see texture: spectra of windows around the patches.

    Args:
        patch_size: Side of the patches; that of the windows is three times as
            much.
    """

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        step, side = self.patch_size, 3 * self.patch_size
        grey = torch.nn.functional.pad(
            frames.mean(1, keepdim=True), (step,) * 4, mode='reflect'
        )
        windows = grey.unfold(2, side, step).unfold(3, side, step)[:, 0]
        windows = windows - windows.mean((-1, -2), keepdim=True)
        taper = torch.hann_window(side)
        power = torch.fft.rfft2(windows * taper * taper[:, None]).abs()
        power = torch.cat([power[..., :6, :6], power[..., -5:, :6]], -2)
        features = torch.log1p(power).flatten(3).permute(0, 3, 1, 2)
        return features - features.mean((2, 3), keepdim=True)


def test_difficulty_is_graded() -> None:
    """What colours do, and what those can do who see textures."""
    MODELS.register_module(module=TextureEnergy, force=True)
    models = {
        name: MODELS.build(
            dict(
                type='LabelPropagation',
                backbone=dict(type=name, patch_size=4),
                radius=6,
            )
        )
        for name in ('RawPixels', 'TextureEnergy')
    }
    results: dict[str, list[list[float]]] = {
        name: [[], [], [], []] for name in (*models, 'copy')
    }
    for level in range(4):
        for scene in vos_scenes(level, 6):
            frames, masks = render(scene, 8, 64)
            sample = ActionDataSample(
                metainfo=dict(original_shape=(64, 64), img_shape=(64, 64))
            )
            sample.set_field({0: masks[0]}, 'gt_masks')
            video = torch.from_numpy(frames).permute(0, 3, 1, 2)
            first = np.repeat(masks[:1], len(masks), 0)
            results['copy'][level].append(overlap(first, masks))
            for name, model in models.items():
                (result,) = model.predict([video], [sample])
                score = overlap(np.asarray(result.pred_masks), masks)
                results[name][level].append(score)
    means = {name: np.mean(rows, 1) for name, rows in results.items()}
    raw, seen, copied = means.values()
    assert raw[0] > 0.7 and raw[1:].max() < 0.4
    assert (seen[1:] > raw[1:] + 0.1).all()
    assert seen[1] > seen[2] > seen[3]
    assert copied[0] == copied[1] > copied[2] > copied[3]


# Files


def read(path: Path) -> Array:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_levels_of_a_data_set(tmp_path: Path) -> None:
    content: dict[str, Any] = dict(
        num_pretrain=6,
        num_train=2,
        num_val=0,
        motions=('left', 'up'),
        num_frames=4,
        num_davis=1,
        davis_frames=2,
        davis_size=64,
        level=3,
        pretrain_levels=(0, 2),
        davis_level=1,
        disable=True,
    )
    assert write_dataset(tmp_path, **content)
    manifest = json.loads((tmp_path / 'manifest.json').read_text())
    assert manifest['arguments']['pretrain_levels'] == [0, 2]
    assert not write_dataset(tmp_path, **content)

    def scene_of(split: int, i: int, level: int, what: Any) -> Scene:
        rng = np.random.default_rng(np.random.SeedSequence((0, split, i)))
        sample = sample_vos_scene if split == 3 else sample_scene
        return sample(rng, what, level=LEVELS[level])

    # Two videos of each level, one of each motion, by turns.
    for i, level in enumerate((0, 0, 2, 2, 0, 0)):
        video = decode(tmp_path / f'videos/pretrain/{i:05d}.mp4')
        motion = ('left', 'up')[i % 2]
        errors = [
            np.abs(video - render(scene, 4, 32)[0].astype(int)).mean()
            for scene in (scene_of(0, i, m, motion) for m in (0, 1, 2, 3))
        ]
        assert np.argmin(errors) == level
    video = decode(tmp_path / 'videos/train/up/00000.mp4')
    frames, _ = render(scene_of(1, 1, 3, 'up'), 4, 32)
    assert np.corrcoef(video.ravel(), frames.ravel())[0, 1] > 0.9
    frames, masks = render(scene_of(3, 0, 1, 1), 2, 64)
    davis, name = tmp_path / 'davis', '480p/shapes-00/00001'
    assert np.array_equal(read(davis / f'Annotations/{name}.png'), masks[1])
    pair = [read(davis / f'JPEGImages/{name}.jpg'), frames[1]]
    assert np.corrcoef(*(x.mean(-1).ravel() for x in pair))[0, 1] > 0.9
    with pytest.raises(FileExistsError, match='other arguments'):
        write_dataset(tmp_path, **{**content, 'davis_level': 2})
