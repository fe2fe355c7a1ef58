"""The presets that are named after published weights, and the tables behind them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from importlib.metadata import version

import pytest

from helpers.producers import installed, photos, save_classifier
from onnx_xcam import Explainer
from onnx_xcam.errors import PreprocessError, XcamWarning
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.producers import named
from onnx_xcam.producers.named import LIBRARIES, table
from onnx_xcam.producers.stated import is_preset, stated_preprocess

LARGEST = 200_000
"""The most bytes that all tables together may have."""


@pytest.mark.parametrize(
    ("spec", "same", "settings"),
    [
        (
            "timm:resnet50",
            "timm:resnet50.a1_in1k",
            {"size": (224, 224), "crop_fraction": 0.95, "interpolation": "cubic"},
        ),
        ("timm:tv_resnet50", "timm:resnet50.tv_in1k", {"crop_fraction": 0.875, "interpolation": "linear"}),
        (
            "torchvision:resnet50",
            "torchvision:ResNet50_Weights.IMAGENET1K_V2",
            {"crop_fraction": 224 / 232, "interpolation": "linear", "mean": (0.485, 0.456, 0.406)},
        ),
        ("torchvision:ResNet50_Weights.DEFAULT", "torchvision:resnet50.imagenet1k_v2", {"size": (224, 224)}),
        ("torchvision:resnet50.IMAGENET1K_V1", "torchvision:resnet50.IMAGENET1K_V1", {"crop_fraction": 0.875}),
        ("keras:resnet50", "keras:ResNet50", {"channels": "BGR", "mean": (103.939, 116.779, 123.68), "scale": 1.0}),
        ("Keras:NASNetLarge", "keras:NASNetLarge", {"size": (331, 331), "scale": 1 / 127.5, "mean": (1.0,)}),
    ],
)
def test_a_name_in_each_form(spec, same, settings):
    statement = named.named(spec)
    assert statement.settings == named.named(same).settings
    assert settings.items() <= statement.settings.items()
    assert same.partition(":")[2].partition(".")[2].lower() in statement.source.lower()


def test_default_weights_are_called_so_where_others_want_something_else():
    (remark,) = named.named("timm:resnet50").remarks
    assert remark.startswith("timm has 19 weights of resnet50, of which 12 want")
    assert remark.endswith("than the default, a1_in1k; name yours, such as timm:resnet50.a1h_in1k.")
    assert named.named("timm:resnet50.a1_in1k").remarks == ()
    assert named.named("keras:VGG16").remarks == ()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:resnet5O", r"^timm [\d.]+ has no weights named 'resnet5O' \(did you mean .*'resnet50'"),
        ("timm:resnet50.a1_in1", r"has no weights 'a1_in1' of resnet50; did you mean a1_in1k"),
        ("torchvision:ResNet50_Weights.V2", r"no weights 'V2' of resnet50; known are IMAGENET1K_V2, IMAGENET1K_V1$"),
        ("keras:ResNet52", r"^keras [\d.]+ has no weights named 'ResNet52' \(did you mean "),
        ("timm:", r"has no weights named ''"),
        ("torchvision:r3d_18", r"torchvision:r3d_18.KINETICS400_V1 .* cannot be used: it takes clips of many frames"),
    ],
)
def test_unknown_and_unsupported_names(spec, message):
    with pytest.raises(PreprocessError, match=message):
        named.named(spec)


@pytest.mark.parametrize("spec", ["imagenet", "timm", "other:resnet50", "C:\\model.json", "photo:timm:x", ""])
def test_texts_that_name_no_library(spec):
    assert named.named(spec) is None


def test_every_entry_is_a_preprocessing_or_a_refusal():
    refused = 0
    for name in LIBRARIES:
        known = table(name)
        used = {row for tags in known.weights.values() for row in tags.values()}
        assert used == set(range(len(known.rows)))
        for architecture, tags in known.weights.items():
            for tag in tags:
                spec = f"{name}:{architecture}" + (f".{tag}" if tag else "")
                try:
                    statement = named.named(spec)
                except PreprocessError as error:
                    assert "refused" in known.rows[tags[tag]], error
                    refused += 1
                else:
                    assert Preprocess(**statement.settings)
                    assert statement.states("values")
        for alias in known.aliases:
            assert named._resolved(alias, known)
    assert refused == 10  # torchvision's weights for clips


@pytest.mark.parametrize(
    ("spec", "advice"),
    [
        ("tim:resnet50", r"did you mean timm:resnet50 or"),
        ("resnet50", r"did you mean timm:resnet50 or torchvision:resnet50 or keras:resnet50\?$"),
        ("vit_base_patch16_224", r"did you mean timm:vit_base_patch16_224\?$"),
        ("ConvNeXtBase", r"did you mean keras:ConvNeXtBase\?$"),
        ("scale: 1", r"known are imagenet, .*, gray, timm:NAME, torchvision:NAME, keras:NAME$"),
        ("torch:ResNet50_Weights.DEFAULT", r"did you mean torchvision:ResNet50_Weights.DEFAULT"),
        ("nothing", r"known are imagenet, .*, gray, timm:NAME, torchvision:NAME, keras:NAME$"),
    ],
)
def test_a_text_that_is_nearly_such_a_name(spec, advice):
    with pytest.raises(PreprocessError, match=rf"'{spec}' is neither a preset nor a file; {advice}"):
        stated_preprocess(spec)


def test_a_preset_of_any_option(tmp_path):
    model = save_classifier(tmp_path / "m.onnx", (1, 3, 160, 160))
    with pytest.warns(
        XcamWarning, match=r"torchvision:resnet50.IMAGENET1K_V2 .* says size 224x224, .* fixed to 160x160"
    ):
        explainer = Explainer(model, preprocess="torchvision:resnet50.IMAGENET1K_V2")
    expected = Preprocess(**named.named("torchvision:resnet50").settings)
    assert explainer.preprocess.replace(size=None) == expected.replace(size=None)
    assert explainer.prepare(photos()[0]).item.shape == (3, 160, 160)  # the model's own size, not 224
    settings = tmp_path / "m.preprocess.json"
    settings.write_text('{"preset": "torchvision:resnet50", "size": 160, "interpolation": "cubic"}')
    assert Explainer(model).preprocess == expected.replace(size=(160, 160), interpolation="cubic")
    settings.write_text('{"preset": "torchvision:resnet5"}')
    with pytest.raises(PreprocessError, match=r"torchvision .* has no weights named 'resnet5'"):
        Explainer(model)
    assert is_preset("keras:VGG16") and is_preset("imagenet")
    assert not is_preset("keras/VGG16.json") and not is_preset(tmp_path) and not is_preset(None)


@pytest.mark.parametrize("beside", [False, True])
def test_a_model_at_the_size_for_tests_gets_what_is_meant_for_that_size(beside, tmp_path):
    """timm's resnet50.a1_in1k is trained at 224x224 and tested at 288x288, with a crop of 0.95 and 1."""
    spec = "timm:resnet50.a1_in1k"
    if beside:
        (tmp_path / "m.preprocess.json").write_text(f'{{"preset": "{spec}", "mean": 0.5}}')
    for size, part in ((224, 0.95), (288, 1.0), (256, 0.95)):
        model = save_classifier(tmp_path / "m.onnx", (1, 3, size, size))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if size == 256 else "error", XcamWarning)
            explainer = Explainer(model, preprocess=None if beside else spec)
        assert explainer.preprocess.crop_fraction == part
        assert explainer.preprocess.scale == 1 / 255
        assert explainer.preprocess.mean == ((0.5,) if beside else (0.485, 0.456, 0.406))


def test_the_name_of_a_preset_is_kept_where_an_explainer_opens_again(tmp_path):
    model = save_classifier(tmp_path / "m.onnx", (1, 3, 224, 224))
    again = pickle.loads(pickle.dumps(Explainer(model, preprocess="keras:VGG16")))
    assert again.preprocess.channels == "BGR"


def test_tables_are_small():
    assert sum(path.stat().st_size for path in named.FOLDER.iterdir()) < LARGEST


TABLE = """
import sys
from tools.release import named_presets

make = named_presets.MAKERS.get(sys.argv[1])
print(named_presets.likelihood_text() if make is None else make().text(), end="")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LIBRARIES, "likelihood"])
def test_tables_are_those_of_the_libraries(name):
    """Each in a process of its own: TensorFlow may crash in one with PyTorch."""
    sources = ("timm", "torchvision") if name == "likelihood" else (name,)
    installed(*sources)
    for each in sources:
        if version(each).partition("+")[0] != table(each).version:
            pytest.skip(f"the table is made from {each} {table(each).version}, installed is {version(each)}")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run(
        [sys.executable, "-c", TABLE, name], env=environment, check=True, capture_output=True, encoding="utf-8"
    )
    assert (named.FOLDER / f"{name}.json").read_text(encoding="utf-8") == made.stdout


def test_a_file_that_names_unknown_weights_is_named_with_them(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"preset": "timm:resnet5O"}')
    with pytest.raises(PreprocessError, match=r"p\.json: preset: timm [\d.]+ has no weights named 'resnet5O'"):
        stated_preprocess(path)
