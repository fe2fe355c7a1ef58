"""Files of Hugging Face's image processors: what is read of them, and that it is what the library does."""

import json
from pathlib import Path

import pytest

from helpers.producers import LARGEST_DIFFERENCE, photos, prepared, save_classifier
from helpers.producers_hugging_face import (
    classes,
    difference_of,
    tensors,
    transformers,
    variants,
)
from onnx_xcam import Explainer, XcamError
from onnx_xcam.errors import PreprocessError
from onnx_xcam.images import PRESETS, Preprocess
from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects.hugging_face import CONFIGURATION, PROCESSOR
from onnx_xcam.producers.dialects.hugging_face.classes import FOLLOWED, NOT_FOLLOWED, TABLE

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_normalize": True}
CROPPED = {"offset_rounding": "floor"}


def file_of(data, path=Path("preprocessor_config.json")):
    return DescriptionFile(path, "the file", "", data)


def stated(data):
    return PROCESSOR.read(file_of(data))


# --- without the library: what its files mean ---


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            HALF
            | {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "resample": 2}
            | {"size": {"height": 224, "width": 224}, "image_processor_type": "ViTImageProcessor"},
            Preprocess(size=(224, 224), scale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3),
        ),
        (  # before 2023: one number is a square for some classes, the shorter side for others
            HALF | {"size": 224, "feature_extractor_type": "ViTFeatureExtractor"},
            Preprocess(size=(224, 224), scale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3),
        ),
        (
            {"size": 224, "crop_size": 224, "feature_extractor_type": "CLIPFeatureExtractor"},
            PRESETS["clip"].replace(size=(224, 224), resize_size=(224, 224), **CROPPED),
        ),
        (  # what a file leaves out is the default of the class: a crop to 224, bicubic, CLIP's mean
            {"image_processor_type": "CLIPImageProcessorFast"},
            PRESETS["clip"].replace(size=(224, 224), resize_size=(224, 224), **CROPPED),
        ),
        (  # squeezed to a square, then cropped
            HALF | {"size": 256, "crop_size": 224, "feature_extractor_type": "DeiTFeatureExtractor"},
            Preprocess(
                size=(224, 224),
                resize_size=(256, 256),
                interpolation="cubic",
                scale=1 / 255,
                mean=(0.5,) * 3,
                std=(0.5,) * 3,
                **CROPPED,
            ),
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}}
            | {"crop_pct": 0.95, "image_mean": MEAN, "image_std": STD, "resample": 3},
            PRESETS["imagenet"].replace(
                size=(224, 224), resize_size=(235, 235), crop_fraction=1.0, interpolation="cubic", **CROPPED
            ),
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}
            | {"crop_pct": 0.95, "image_mean": MEAN, "image_std": STD, "resample": 2},
            PRESETS["imagenet"].replace(size=(384, 384), resize="stretch", crop_fraction=1.0),
        ),
        (  # 256 / 224 of 224
            {"image_processor_type": "LevitImageProcessor"},
            PRESETS["imagenet"].replace(
                size=(224, 224), resize_size=(256, 256), crop_fraction=1.0, interpolation="cubic", **CROPPED
            ),
        ),
        (  # blue first, no normalisation, whatever image_mean says; borders, as the crop is larger than the photo
            {"image_processor_type": "MobileViTImageProcessor", "size": 200, "image_mean": MEAN, "do_normalize": True},
            Preprocess(
                size=(256, 256),
                resize="crop",
                resize_size=(200, 200),
                interpolation="cubic",
                scale=1 / 255,
                channels="BGR",
                **CROPPED,
            ),
        ),
        (  # 1 is subtracted after rescaling, and std divides twice
            HALF
            | {"image_processor_type": "EfficientNetImageProcessor", "include_top": True, "rescale_offset": True}
            | {"size": {"height": 8, "width": 8}, "resample": 0, "rescale_factor": 1 / 127.5},
            Preprocess((8, 8), interpolation="nearest", scale=1 / 127.5, mean=(1.5,) * 3, std=(0.25,) * 3),
        ),
        (  # normalised as RGB and turned round then: the numbers stand in the order of BGR
            {"image_processor_type": "PPLCNetImageProcessor", "resize_short": 256, "size_divisor": None}
            | {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
            Preprocess(
                size=(224, 224),
                resize="crop",
                resize_size=(256, 256),
                size_rounding="round",
                scale=1 / 255,
                mean=(0.3, 0.2, 0.1),
                std=(0.6, 0.5, 0.4),
                channels="BGR",
                **CROPPED,
            ),
        ),
        (
            HALF | {"image_processor_type": "PerceiverImageProcessor", "size": 224, "crop_size": 256, "resample": 3},
            Preprocess(
                size=(224, 224),
                resize="crop",
                crop_first=True,
                crop_fraction=0.875,
                interpolation="cubic",
                scale=1 / 255,
                mean=(0.5,) * 3,
                std=(0.5,) * 3,
                **CROPPED,
            ),
        ),
        (  # borders of the mean, cut down to whole numbers
            HALF | {"image_processor_type": "JanusImageProcessor", "size": 384, "resample": 3},
            Preprocess(
                size=(384, 384),
                resize="letterbox",
                pad_value=(127, 127, 127),
                interpolation="cubic",
                scale=1 / 255,
                mean=(0.5,) * 3,
                std=(0.5,) * 3,
            ),
        ),
        (  # borders of 0 after normalisation, below and to the right
            HALF | {"image_processor_type": "SamImageProcessor", "size": {"longest_edge": 64}, "pad_size": 80},
            Preprocess(
                size=(80, 80),
                resize="letterbox",
                resize_size=(64, 64),
                size_rounding="round",
                align="start",
                pad_value=(127.5, 127.5, 127.5),
                scale=1 / 255,
                mean=(0.5,) * 3,
                std=(0.5,) * 3,
            ),
        ),
        (
            {"image_processor_type": "LayoutLMv2ImageProcessor", "do_normalize": True, "image_mean": MEAN},
            Preprocess(size=(224, 224), channels="BGR"),
        ),
    ],
)
def test_what_a_file_states(data, expected):
    assert PROCESSOR.recognises(file_of(data))
    assert Preprocess(**stated(data).settings) == expected
    assert not stated(data).remarks


def test_the_image_processor_in_the_file_of_a_processor():
    inner = HALF | {"image_processor_type": "ViTImageProcessor", "size": 32}
    outer = {"processor_class": "CLIPProcessor", "image_processor": inner}
    assert stated(outer).settings == stated(inner).settings
    with pytest.raises(PreprocessError, match=r"^the file: image_processor: size is 'big'; it must be"):
        stated({"image_processor": inner | {"size": "big"}})


@pytest.mark.parametrize(
    "data",
    [
        {"feature_extractor_type": "WhisperFeatureExtractor", "do_normalize": True, "sampling_rate": 16000},
        {"processor_class": "WhisperProcessor"},
        {"id2label": {"0": "cat"}},
        ["do_resize"],
        None,
    ],
)
def test_what_is_no_image_processor(data):
    assert not PROCESSOR.recognises(file_of(data))


def test_a_class_that_is_not_known_takes_the_usual_steps_with_a_remark():
    data = HALF | {"image_processor_type": "FutureImageProcessor", "size": 256, "do_center_crop": True}
    found = stated(data | {"crop_size": 224, "sharpen": 0.5, "processor_class": "FutureProcessor", "do_tilt": False})
    assert found.settings["resize_size"] == (256, 256)
    assert (found.settings["size"], found.settings["resize"]) == ((224, 224), "crop")
    assert found.remarks == (
        "the file: image_processor_type is FutureImageProcessor, which is not known; the usual steps are taken: "
        "resize, crop, rescale, normalise.",
        "the file: sharpen is not followed.",
    )
    many = stated(data | {f"key{n}": n for n in range(9)})
    assert many.remarks[-1] == "the file: 4 more keys are not followed."
    assert "image_processor_type is missing" in stated(HALF | {"size": 224}).remarks[0]
    with pytest.raises(PreprocessError, match="the step do_tilt is switched on, which is not supported"):
        stated(data | {"do_tilt": True})


def test_a_file_that_states_values_alone():
    assert Preprocess(**stated(HALF).settings) == Preprocess(scale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert Preprocess(**stated({"do_rescale": False, "do_normalize": False}).settings) == Preprocess()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("ViT", {"do_resize": False}, "do_resize is false, so the size of the input follows each photo"),
        ("CLIP", {"do_resize": False}, "the photo is cropped or padded without being scaled"),
        ("ViT", {"resample": 5}, "resample is 5; Pillow's filters 0 to 3"),
        ("ViT", {"resample": [2]}, "resample is"),
        ("Detr", {}, "size is longest_edge 1333 and shortest_edge 800 without do_center_crop, so the size"),
        ("ViT", {"size": {"shortest_edge": 224}}, "without do_center_crop"),
        ("ViT", {"size": "big"}, "size is 'big'"),
        ("ViT", {"size": 10**9}, "size is 1000000000"),
        ("ViT", {"size": float("nan")}, "size is nan"),
        ("ViT", {"size": {"height": 3, "depth": 3}}, "size is"),
        ("ViT", {"do_resize": "false"}, "do_resize is 'false'; it must be true or false"),
        ("ViT", {"image_mean": "bright"}, "image_mean is 'bright'"),
        ("ViT", {"image_mean": [0.5] * 9}, "image_mean is"),
        ("ViT", {"image_std": [0.5, 0, 0.5]}, "image_std is"),
        ("ViT", {"rescale_factor": -1}, "rescale_factor is -1"),
        ("CLIP", {"crop_size": {"height": 2}}, "crop_size is"),
        ("CLIP", {"do_pad": True, "pad_size": 300}, "do_pad adds borders around 224x224 pixels, up to 300x300"),
        ("ConvNext", {"size": {"height": 2, "width": 2}}, "size is .* it must state shortest_edge"),
        ("ConvNext", {"size": 224, "crop_pct": 0}, "crop_pct is 0"),
        ("ConvNext", {"size": 224, "do_center_crop": True, "crop_size": 8}, "a crop to 8x8 follows"),
        ("DPT", {"keep_aspect_ratio": True}, "keep_aspect_ratio is true, so the size"),
        ("DPT", {"ensure_multiple_of": 0}, "ensure_multiple_of is 0"),
        ("MaskFormer", {"size": {"height": 50, "width": 64}}, "borders are added to 50x64 pixels"),
        ("Perceiver", {"size": {"height": 100, "width": 200}}, "cut an oblong"),
        ("GotOcr2", {"crop_to_patches": True}, "crop_to_patches splits the picture into tiles"),
        ("Llava", {"do_pad": True}, "do_pad pads the photo to a square"),
        ("SuperPoint", {"do_grayscale": True}, "do_grayscale makes three equal channels"),
        ("Sam", {"image_mean": [2.0, 0.5, 0.5]}, "a value that no pixel has"),
        ("Qwen2VL", {}, "Qwen2VLImageProcessor cuts each picture into patches, which is not supported; state what"),
        ("GLPN", {}, "GLPNImageProcessor scales each photo to multiples"),
    ],
)
def test_what_cannot_be_followed(name, data, message):
    with pytest.raises(PreprocessError, match=f"^the file: .*{message}"):
        stated({"image_processor_type": f"{name}ImageProcessor", **data})


def test_the_table_holds_the_followed_classes():
    assert json.loads(TABLE.read_text()).keys() == FOLLOWED.keys()
    assert not FOLLOWED.keys() & NOT_FOLLOWED.keys()


# --- config.json ---


def test_labels_and_size_of_a_configuration(tmp_path):
    path = tmp_path / "config.json"
    data = {"model_type": "vit", "id2label": {"1": "dog", "0": "cat"}, "label2id": {"cat": 0, "dog": 1}}
    found = CONFIGURATION.read(file_of(data | {"image_size": 48}, path))
    assert (found.labels, found.settings, found.remarks) == (("cat", "dog"), {"size": (48, 48)}, ())
    for size in ({"vision_config": {"image_size": [32, 48]}}, {"image_size": [32, 48]}):
        assert CONFIGURATION.read(file_of(data | size, path)).settings == {"size": (32, 48)}
    for size in (-1, True, "224", [224], [1, 2, 3], 10**9, None, {"height": 3}):
        assert CONFIGURATION.read(file_of(data | {"image_size": size}, path)).settings == {}
    assert CONFIGURATION.read(file_of({"label2id": {"dog": 1, "cat": 0}}, path)).labels == ("cat", "dog")


def test_labels_that_transformers_made_up_are_none(tmp_path):
    """`num_labels` of its configurations gives LABEL_0, LABEL_1, ... to whoever gives no labels."""
    data = {"model_type": "vit", "id2label": {str(index): f"LABEL_{index}" for index in range(5)}}
    found = CONFIGURATION.read(file_of(data, tmp_path / "config.json"))
    assert found.labels is None
    assert "LABEL_0, LABEL_1, ... are made up by transformers" in found.label_remarks[0]
    data["id2label"]["4"] = "cat"
    assert CONFIGURATION.read(file_of(data, tmp_path / "config.json")).labels[3:] == ("LABEL_3", "cat")

    (tmp_path / "config.json").write_text(
        json.dumps({"id2label": {str(index): f"LABEL_{index}" for index in range(5)}})
    )
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne")
    model = save_classifier(tmp_path / "m.onnx", (1, 3, 32, 32))
    assert Explainer(model, preprocess="imagenet").labels == ("a", "b", "c", "d", "e")


def test_the_size_of_a_configuration_gives_way_to_an_image_processor(tmp_path):
    """A model's image_size is often that of its training, 224, where pictures of 512 are fed."""
    (tmp_path / "preprocessor_config.json").write_text("{}")
    data = {"model_type": "segformer", "image_size": 224}
    assert CONFIGURATION.read(file_of(data, tmp_path / "config.json")).settings == {}


def test_a_configuration_that_contradicts_itself(tmp_path):
    def read(**data):
        return CONFIGURATION.read(file_of(data, tmp_path / "config.json"))

    found = read(id2label={"0": "cat", "1": "dog"}, num_labels=5)
    assert found.labels == ("cat", "dog")
    assert found.remarks == ("the file: num_labels is 5, but id2label names 2 classes, which are used.",)
    found = read(id2label={"0": "cat", "1": "dog"}, label2id={"cat": 0, "fox": 1})
    assert found.labels == ("cat", "dog")
    assert found.remarks == ("the file: label2id names other labels than id2label, which is used.",)
    found = read(id2label={"0": ["a", 1, 2]}, label2id={"cat": 0})
    assert found.labels == ("cat",)
    assert len(found.remarks) == 1 and found.remarks[0].endswith("id2label is not used.")
    assert not read(id2label={"0": "N/A", "2": "cat"}, num_labels=3).remarks  # detectors leave ids out


@pytest.mark.parametrize("data", [{"model_type": "resnet"}, {"pretrained_cfg": {}, "id2label": {}}, [], {"id": 3}])
def test_configurations_of_others(data):
    assert not CONFIGURATION.recognises(file_of(data))


def test_a_folder_of_transformers_js(tmp_path):
    """The model lies in onnx/, the files of the processor and of the labels above it."""
    (tmp_path / "onnx").mkdir()
    data = HALF | {"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "resample": 2}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(data))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "id2label": {n: f"c{n}" for n in range(5)}}))
    model = save_classifier(tmp_path / "onnx" / "model_quantized.onnx", [1, 3, 32, 32])
    explainer = Explainer(model)
    expected = Preprocess(scale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3)
    photo = photos()[2]
    assert (explainer.prepare(photo).item == prepared(expected, photo, [1, 3, 32, 32])).all()
    assert explainer.labels[4] == "c4"


# --- with the library: its own tensors ---


def test_every_class_of_the_library_is_known():
    transformers()
    found = set(classes()) - {"TimmWrapperImageProcessor"}  # it writes timm's config.json
    assert found - FOLLOWED.keys() - NOT_FOLLOWED.keys() == set()
    assert (FOLLOWED.keys() | NOT_FOLLOWED.keys()) - found == set()


def test_the_table_of_defaults_is_the_library_s():
    transformers()
    from tools.release import hugging_face_defaults

    assert TABLE.read_text(encoding="utf-8") == hugging_face_defaults.text()


@pytest.mark.parametrize("name", sorted(FOLLOWED))
def test_each_step_switched_on_and_off(name):
    """With any key changed, a file is followed as the library follows it, or refused."""
    compared = refused = 0
    for keys in variants(name):
        # Where a centre falls between two pixels, the nearest one is Pillow's; torchvision takes its neighbour.
        library_class = getattr(transformers(), f"{name}Pil" if keys.get("resample") == 0 else name, None)
        try:
            theirs = tensors(library_class(**keys))
        except Exception:  # noqa: BLE001 -- there is no such class, or it does not take every combination
            continue
        try:
            worst = difference_of(name, keys, theirs)
        except XcamError as error:
            refused += 1
            if "follows each photo" in str(error):
                assert len({one.shape for one in theirs}) > 1, keys
            continue
        compared += 1
        assert worst <= LARGEST_DIFFERENCE, keys
    assert compared + refused >= 5
