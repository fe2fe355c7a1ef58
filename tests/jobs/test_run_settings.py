"""What decides what a run writes: every setting is in each line of its results, compared, and called by a name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from onnx_xcam.errors import OutputError
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.images.presets import PRESETS
from onnx_xcam.jobs import run_settings
from onnx_xcam.jobs.run_settings import RunSettings, refuse_other_run

FIELDS = [field.name for field in dataclasses.fields(RunSettings)]


def test_no_setting_is_forgotten_in_the_tables():
    """A line names its layers and methods beside its settings."""
    uncalled = set(FIELDS) - run_settings._CALLED.keys()
    assert not uncalled, f"how messages call {sorted(uncalled)} is missing in run_settings._CALLED"
    unsaid = set(FIELDS) - {*run_settings._IN_LINE, "layer", "method"}
    assert not unsaid, f"{sorted(unsaid)} would be in no line of results.jsonl: add it to run_settings._IN_LINE"
    unknown = {*run_settings._CALLED, *run_settings._IN_LINE} - set(FIELDS)
    assert not unknown, f"the tables of run_settings name {sorted(unknown)}, which RunSettings does not have"


SETTINGS = RunSettings(
    layer=("a",),
    method=("xgrad-cam",),
    maps="signed",
    model="1",
    score="logits",
    classes="7",
    preprocess="2",
    labels="3",
    probabilities="none",
    inputs="none",
    products=None,
    write="pictures",
    measure=None,
)


def line_of(settings: RunSettings):
    """As much of a line of `explain` as tells how it was made."""
    (layer,), (method,) = settings.layer, settings.method
    made = {"layer": layer, "method": method, "status": []}
    return {"layer": layer, "method": method, "maps": [made], "settings": settings.in_line()}


@pytest.mark.parametrize("field", FIELDS)
def test_a_run_with_another_setting_is_not_continued(field):
    refuse_other_run(line_of(SETTINGS), SETTINGS, Path("out/results.jsonl"))
    other = dataclasses.replace(SETTINGS, **{field: ("b",) if field in ("layer", "method") else "b"})
    assert field in other.in_summary()
    with pytest.raises(OutputError, match=rf"made with another {run_settings._CALLED[field]} \(.*, now b\);"):
        refuse_other_run(line_of(SETTINGS), other, Path("out/results.jsonl"))


@pytest.mark.parametrize(("preset", "digest"), [("imagenet", "756745430114"), ("raw", "075886c17dce")])
def test_a_run_that_was_made_before_a_setting_was_added_is_continued(preset, digest):
    """The digests are those in results.jsonl when a preprocessing had eleven settings."""
    assert run_settings._digest_of_preprocessing(PRESETS[preset]) == digest


@pytest.mark.parametrize("added", [{"white": 255}, {"window": (0, 9)}, {"bands": (2, 1, 0)}, {"align": "start"}])
def test_a_setting_that_was_added_counts_where_it_is_stated(added):
    assert run_settings._digest_of_preprocessing(Preprocess(**added)) != run_settings._digest_of_preprocessing(
        Preprocess()
    )
