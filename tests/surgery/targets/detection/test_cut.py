"""The cut of a detector: the layers that its scores and its boxes are made from."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.detectors import one_table
from helpers.models import images, run
from onnx_xcam import instrument
from onnx_xcam.metadata import Metadata


@pytest.mark.parametrize("joined", [False, True])
def test_what_is_joined_to_the_boxes_is_not_what_boxes_are_made_from(joined):
    """Older exports of YOLOv8 join the boxes and scores of a level, and split the table of all levels again."""
    made = instrument(one_table(joined=joined))
    metadata = Metadata.from_props({one.key: one.value for one in made.metadata_props}, "the model")
    assert [member.layer for member in metadata.cut] == ["n4", "n8"]


def test_the_same_scores_have_the_same_cut_maps():
    apart, joined = (
        run(instrument(one_table(joined=joined)), np.resize(images(1), (1, 3, 16, 16))) for joined in (0, 1)
    )
    assert apart["xcam_map"].any()
    np.testing.assert_allclose(joined["xcam_map"], apart["xcam_map"], rtol=1e-4, atol=1e-6)
