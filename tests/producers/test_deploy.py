"""What deployment tools state, against their own code: PaddleClas, PaddleDetection, MMPretrain through MMDeploy."""

from pathlib import Path

import pytest

from helpers.producers import LARGEST_DIFFERENCE
from helpers.producers_deploy import Measure
from helpers.producers_deploy_cases import CASES

ALL = [pytest.param(measure, id=f"{row}: {case}") for row, cases in CASES.items() for case, measure in cases.items()]


@pytest.mark.filterwarnings("ignore")  # those of the libraries, and the remarks on photos that have sizes of their own
@pytest.mark.parametrize("measure", ALL)
def test_the_model_gets_what_the_producer_makes(measure: Measure, tmp_path: Path):
    assert measure(tmp_path) <= LARGEST_DIFFERENCE
