"""Training a head: multinomial logistic regression, by scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from veilmatch.client.evaluation.heads.sets import Labelled
from veilmatch.client.evaluation.libraries import require
from veilmatch.client.vectors.classes import ClassMap, Matrix
from veilmatch.client.vectors.head import Head
from veilmatch.client.vectors.spreading import Vector
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.parameters import ParameterSet

#: Inverse strength of the L2 penalty. Embeddings have length 1, so weights have to be large to tell classes apart.
REGULARISATION = 30.0
_ITERATIONS = 3000


def fit(features: Matrix, classes: Sequence[str], names: Sequence[str], regularisation: float) -> tuple[Matrix, Vector]:
    """Return weights, float64[K, d], and biases, float64[K], of the classes called `names`, in their order.

    Raises InvalidInputError if one of them is not among `classes`.
    """
    if missing := set(names) - set(classes):
        raise InvalidInputError(
            "a class without a photo to train on",
            got=sorted(missing)[0][:40],
            expected="photos of several people for each",
        )
    model = require("sklearn.linear_model").LogisticRegression(C=regularisation, max_iter=_ITERATIONS)
    model.fit(features, np.searchsorted(np.array(sorted(names)), np.array(classes)))
    weights, biases = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if len(names) == 2:  # scikit-learn has one row for both
        weights, biases = np.vstack([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    order = [sorted(names).index(name) for name in names]
    return weights[order], biases[order]


def features_of(data: Labelled, class_map: ClassMap) -> Matrix:
    """Return what heads are trained on, float64[n, D - 2]."""
    return np.array([class_map.feature(embedding) for embedding in data.embeddings])


def train(
    data: Labelled, name: str, parameters: ParameterSet, threshold: float, regularisation: float = REGULARISATION
) -> Head:
    """Return the head of all these embeddings. Raises InvalidInputError, ParameterError if there can be none."""
    features = features_of(data, ClassMap(parameters, threshold))
    weights, biases = fit(features, data.classes, data.names, regularisation)
    return Head(name, data.model, parameters, threshold, data.names, weights, biases)
