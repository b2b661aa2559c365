# Copyright (c) MotionMAE contributors. All rights reserved.
"""k nearest neighbours that vote.

Shapes: N training features and M test features of width D, C classes.
"""

from collections.abc import Collection

import numpy as np


def knn_scores(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray | None,
    neighbours: Collection[int],
    num_classes: int,
    temperature: float = 0.07,
) -> dict[int, np.ndarray]:
    """Votes of the nearest neighbours, as in DINO.

    Each of the k neighbours of largest cosine similarity votes for its class,
    with the weight ``exp(similarity / temperature)``: ``knn_classifier`` in
    ``eval_knn.py`` of https://github.com/facebookresearch/dino. Neighbours by
    scikit-learn.

    Args:
        train: (N, D), float.
        labels: (N, ), int, in [0, C).
        test: (M, D), float. None: each of ``train`` among all others.
        neighbours: Numbers k, each at most N, or N - 1 without ``test``.
        num_classes: C.
        temperature: Above 0; the smaller, the more the nearest count.

    Returns:
        For each k the votes (M, C), float64; 0 for a class that none of the
        neighbours is of.

    Raises:
        ImportError: If scikit-learn is missing.

    Examples:
        >>> train = np.array([[1, 0], [1, 0.1], [0, 1]])
        >>> votes = knn_scores(
        ...     train, np.array([0, 1, 1]), np.array([[2, 0]]), (1, 3), 2)
        >>> votes[1].argmax(1), votes[3].argmax(1)
        (array([0]), array([0]))
    """
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(
        n_neighbors=max(neighbours), metric='cosine', algorithm='brute'
    )
    index.fit(train)
    # From near to far; without a query a point is no neighbour of its own.
    distances, found = index.kneighbors(test)
    weights = np.exp((1 - distances.astype(np.float64)) / temperature)
    rows = np.arange(len(found))[:, None]
    scores = {}
    for k in neighbours:
        votes = np.zeros((len(found), num_classes))
        np.add.at(votes, (rows, labels[found[:, :k]]), weights[:, :k])
        scores[k] = votes
    return scores
