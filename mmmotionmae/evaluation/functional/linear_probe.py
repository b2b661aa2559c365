# Copyright (c) MotionMAE contributors. All rights reserved.
"""Logistic regression on frozen features.

Shapes: N training features and M test features of width D, C classes.
"""

import warnings
from typing import NamedTuple

import numpy as np

from ...utils.choices import STRENGTHS


class LinearProbe(NamedTuple):
    """Predictions of a linear probe for test features.

    Attributes:
        scores: (M, C), float64, probabilities; 0 for a class that training
            has nothing of.
        strength: C of the logistic regression, the inverse of its
            regularisation.
        accuracy: Of this choice in the cross-validation on the training
            features; None if there was nothing to choose.
        converged: Whether the optimiser has come to an end.
    """

    scores: np.ndarray
    strength: float
    accuracy: float | None
    converged: bool


def linear_probe(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    num_classes: int,
    strengths: tuple[float, ...] = STRENGTHS,
    num_folds: int = 5,
    max_iter: int = 1000,
    seed: int = 0,
    num_jobs: int = 1,
) -> LinearProbe:
    """Train a linear classifier, and choose its regularisation.

    Multinomial logistic regression (L-BFGS) on standardised features, both
    scikit-learn's. The strength is the one with the best accuracy in a
    cross-validation of the training features, each fold with the same share
    of every class, standardised without what it is tested on; of equal ones
    that which regularises most. The test features have no part in it.

    Args:
        train: (N, D), float.
        labels: (N, ), int, in [0, C); at least two classes.
        test: (M, D), float.
        num_classes: C.
        strengths: To choose from, ascending.
        num_folds: Of the cross-validation; fewer if the smallest class has
            fewer features, but not fewer than 2.
        max_iter: Limit of the optimiser.
        seed: Of the division into folds.
        num_jobs: Processes; -1: one for each CPU. It changes no result.

    Returns:
        See there.

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If there is only one class, or no class has two features,
            so that nothing can be chosen.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2:
        raise ValueError('A linear probe needs two classes at least.')
    model = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=strengths[0], max_iter=max_iter),
    )
    train, test = train.astype(np.float64), test.astype(np.float64)
    accuracy = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('ignore')
        if len(strengths) > 1:
            if counts.max() < 2:
                raise ValueError(
                    'Every class has one feature only, so that no strength '
                    'can be chosen: name one.'
                )
            folds = StratifiedKFold(
                max(2, min(num_folds, counts.min())),
                shuffle=True,
                random_state=seed,
            )
            search = GridSearchCV(
                model,
                dict(logisticregression__C=sorted(strengths)),
                scoring='accuracy',
                cv=folds,
                n_jobs=num_jobs,
                refit=False,
                error_score='raise',
            ).fit(train, labels)
            model.set_params(**search.best_params_)
            accuracy = float(search.best_score_)
        warnings.simplefilter('always', ConvergenceWarning)
        model.fit(train, labels)
    scores = np.zeros((len(test), num_classes))
    scores[:, model.classes_] = model.predict_proba(test)
    converged = not any(
        issubclass(warning.category, ConvergenceWarning) for warning in caught
    )
    strength = model.named_steps['logisticregression'].C
    return LinearProbe(scores, float(strength), accuracy, converged)
