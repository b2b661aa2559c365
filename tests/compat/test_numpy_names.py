# Copyright (c) MotionMAE contributors. All rights reserved.
"""MMAction2 with the names that NumPy has dropped."""

import ast
import importlib
from pathlib import Path

import cv2
import mmaction
import mmcv
import mmengine
import numpy as np
import pytest
import torch
from helpers.video_files import encode, picture
from mmaction.datasets.transforms import PoseCompact
from mmaction.evaluation import average_recall_at_avg_proposals
from mmaction.evaluation.metrics import RetrievalRecall
from mmaction.utils import frame_extract

from mmmotionmae.compat import numpy_names

# MMAction2 sets the name itself, for imgaug, which needs NumPy 1.
SET_BY_ITSELF = {('mmaction.datasets.transforms.wrappers', 'bool')}


@pytest.fixture(params=['as it is', 'without them'])
def numpy(request, monkeypatch):
    """NumPy, and one without what later versions may drop as well."""
    if request.param == 'without them':
        for name, attributes in numpy_names._USERS.items():
            module = importlib.import_module(name)
            monkeypatch.setattr(module, 'np', np)  # undone afterwards
            for attribute in attributes:
                monkeypatch.delattr(np, attribute, raising=False)
        numpy_names.give_back_numpy_names()
        for name, attributes in numpy_names._USERS.items():
            module = importlib.import_module(name)
            assert module.np is not np and module.np.zeros is np.zeros
            assert not any(hasattr(np, other) for other in attributes)


def test_points_of_a_pose_are_moved_to_their_box(numpy):
    points = np.array([[[[10.0, 20.0], [50.0, 80.0], [0.0, 0.0]]]])
    compact = PoseCompact(padding=0.0, threshold=5)
    results = compact(dict(img_shape=(100, 200), keypoint=points.copy()))
    assert results['img_shape'] == (60, 40)
    assert results['keypoint'].tolist() == [[[[0, 0], [40, 60], [0, 0]]]]


def test_area_under_the_recall(numpy):
    truth = {'a': np.array([[0.0, 10.0]]), 'b': np.array([[5.0, 9.0]])}
    proposals = {
        'a': np.array([[0.0, 10.0, 0.9], [20.0, 30.0, 0.1]]),
        'b': np.array([[50.0, 60.0, 0.9], [5.0, 9.0, 0.1]]),
    }
    _, recall, counts, area = average_recall_at_avg_proposals(
        truth, proposals, 4, max_avg_proposals=2
    )
    steps = zip(counts, counts[1:], recall, recall[1:], strict=False)
    expected = sum((b - a) * (p + q) / 2 for a, b, p, q in steps)
    assert area == pytest.approx(100 * expected / counts[-1])
    assert 0 < area < 100


def test_recall_of_retrieval(numpy):
    ranks = [torch.tensor([3, 1, 0]), torch.tensor([2, 0, 1])]
    wanted = [torch.tensor([1]), torch.tensor([4, 2])]
    found = RetrievalRecall.calculate(
        ranks, wanted, (1, 2), pred_indices=True, target_indices=True
    )
    assert [float(value) for value in found] == [50, 100]


def test_frames_are_extracted_at_a_size(numpy, tmp_path):
    encode(tmp_path / 'a.mp4', num_frames=4)
    _, frames = frame_extract(
        str(tmp_path / 'a.mp4'), short_side=48, out_dir=str(tmp_path)
    )
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    small = cv2.resize(picture(0), (64, 48))[..., ::-1]
    assert np.abs(frames[0].astype(int) - small).mean() < 6


@pytest.mark.parametrize('package', [mmaction, mmcv, mmengine])
def test_all_uses_of_what_this_numpy_lacks_are_known(package):
    """Also what the next NumPy drops is seen here."""
    folder = Path(package.__file__).parent
    lacking = set()
    for path in folder.rglob('*.py'):
        inner = path.relative_to(folder.parent).with_suffix('')
        # Scripts; and what the full MMCV needs, which is not required.
        if inner.parts[1] in ('.mim', 'ops'):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == 'np'
                and not hasattr(np, node.attr)
            ):
                lacking.add(('.'.join(inner.parts), node.attr))
    known = {
        (name, attribute)
        for name, attributes in numpy_names._USERS.items()
        for attribute in attributes
    }
    assert lacking - SET_BY_ITSELF <= known
