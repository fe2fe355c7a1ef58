"""The options of `instrument` and its sisters: stated once, shown everywhere, and no others."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import get_type_hints

import pytest

import onnx_xcam
from helpers.models import cnn
from onnx_xcam.surgery import instrument, instrument_bytes, instrument_file
from onnx_xcam.surgery.options import InstrumentOptions, divided
from onnx_xcam.surgery.tail.options import TailOptions
from onnx_xcam.surgery.targets.analysis import Request

FUNCTIONS = (instrument, instrument_bytes, instrument_file)


def test_the_dictionary_and_the_classes_state_the_same_options():
    stated = get_type_hints(InstrumentOptions)
    of_classes = {**get_type_hints(Request), **get_type_hints(TailOptions)}
    assert stated == of_classes, "an option is one line in InstrumentOptions and one in Request or TailOptions"


def test_each_option_goes_where_it_belongs():
    options = {"layers": ["a"], "score": "s", "picture": "p", "method": "grad-cam", "emit": ["map"], "relu": False,
               "class_input": "fixed", "classes": [1], "fuse": "mean", "task": "detection", "conf": 0.5, "iou": 0.6,
               "objects": [-2], "contrast": True}  # fmt: skip
    assert options.keys() == InstrumentOptions.__annotations__.keys(), "this test knows every option"
    request, tail = divided(options)
    found = {f.name: getattr(part, f.name) for part in (request, tail) for f in fields(part)}
    assert found == options


@pytest.mark.parametrize("function", FUNCTIONS)
def test_help_shows_every_option_with_its_default(function):
    parameters = inspect.signature(function).parameters
    for part in (Request(), TailOptions()):
        for option in fields(part):
            shown = parameters[option.name]
            assert shown.default == getattr(part, option.name)
            assert shown.kind is shown.KEYWORD_ONLY and shown.annotation == option.type
    assert "options" not in parameters and "allow_folders" in parameters
    assert next(iter(parameters)) == "model"


@pytest.mark.parametrize("name", InstrumentOptions.__annotations__)
def test_every_option_is_documented(name):
    assert f"\n    {name}: " in inspect.getdoc(onnx_xcam.instrument)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_another_option_is_named_beside_the_nearest(function):
    with pytest.raises(
        TypeError, match=rf"^{function.__name__}\(\) got an unexpected keyword argument 'layer'.*layers"
    ):
        function(cnn("gap"), layer="a")
    with pytest.raises(TypeError, match="unexpected keyword argument 'options'"):
        function(cnn("gap"), options={})
