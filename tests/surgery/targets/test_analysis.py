"""A model is analysed once, and no further than what is asked for."""

from __future__ import annotations

from collections import Counter

import pytest

from helpers.models import cnn
from onnx_xcam import check, inspect, instrument
from onnx_xcam.cams.methods import METHODS
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.randomise import weight_layers
from onnx_xcam.surgery.targets import analysis
from onnx_xcam.surgery.targets.analysis import Request, analyse

STATIONS = ("normalised", "prepare", "recognised", "Layers", "resolve")


@pytest.fixture
def stations(monkeypatch):
    """How often each part of the way from a file to the layers is gone."""
    counts = Counter()

    def counted(name):
        original = getattr(analysis, name)

        def made(*args, **options):
            counts[name] += 1
            return original(*args, **options)

        return made

    for name in STATIONS:
        monkeypatch.setattr(analysis, name, counted(name))
    return counts


def test_a_recorder_with_ablations_and_a_guided_method_goes_the_way_once(stations):
    Recorder(cnn("gap"), methods=list(METHODS), ablations=True, providers="cpu", preprocess="raw")
    assert stations == dict.fromkeys(STATIONS, 1)


@pytest.mark.parametrize("act", [instrument, check])
def test_so_do_the_public_functions(stations, act):
    act(cnn("gap"))
    assert stations == dict.fromkeys(STATIONS, 1)


def test_inspect_resolves_no_name(stations):
    inspect(cnn("gap"))
    assert stations == dict.fromkeys(set(STATIONS) - {"resolve"}, 1)


def test_weights_are_found_without_looking_for_layers(stations):
    weight_layers(cnn("gap"))
    assert stations == dict.fromkeys(("normalised", "prepare", "recognised"), 1)


def test_each_part_is_found_out_when_it_is_asked_for_and_kept(stations):
    found = analyse(Source(cnn("gap")), Request(layers=["r1", "auto"]))
    assert stations == {"normalised": 1}
    assert [(layer.name, asked) for layer, asked in found.chosen] == [("r1", "r1"), ("a", "auto")]
    assert found.chosen is found.chosen and found.layers is found.layers
    assert stations == dict.fromkeys(STATIONS, 1)
