"""Keras' own models, exported by Keras and by tf2onnx: the graph proves what `preprocess_input` leaves to it."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.producers_keras import EXPORTERS, FAMILIES, exported, small_photo
from onnx_xcam import Explainer


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # that nothing states the resize rule
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_scores_are_those_of_keras(exporter):
    files, scores = exported(exporter)
    assert files.keys() | {"ConvNeXtTiny"} == FAMILIES.keys()
    for case, path in files.items():
        explainer = Explainer(path)
        inside = FAMILIES[case][2]
        assert (explainer.model.photos.settled.origins["values"].kind == "graph") is inside, case
        if inside:
            np.testing.assert_array_equal(explainer.prepare(small_photo()).item, small_photo())
            explained = explainer.explain(small_photo(), top=5)
            np.testing.assert_allclose(explained.probabilities[0], scores[case][explained.classes[0]], atol=1e-5)
