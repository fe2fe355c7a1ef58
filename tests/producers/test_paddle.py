"""What PaddleClas, PaddleDetection and PaddleSeg state, read from files as their exporters write them."""

from pathlib import Path

import pytest
import yaml

from helpers.producer_files import PADDLE_CLASSIFIER, PADDLE_DETECTOR, PADDLE_SEGMENTER
from onnx_xcam.errors import PreprocessError
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects import paddle_clas, paddle_detection, paddle_seg
from onnx_xcam.producers.statement import Statement


def stated(dialect: Dialect, text: str) -> Statement:
    """Return what a dialect states of a YAML text that it recognises."""
    file = DescriptionFile(Path("inference.yml"), "inference.yml", text, yaml.safe_load(text))
    assert dialect.recognises(file)
    return dialect.read(file)


def clas(*operators: object) -> Statement:
    """Return what PaddleClas' dialect states of operators."""
    return stated(paddle_clas.DIALECT, yaml.safe_dump({"PreProcess": {"transform_ops": list(operators)}}))


def det(*operators: object) -> Statement:
    """Return what PaddleDetection's dialect states of operators."""
    return stated(paddle_detection.DIALECT, yaml.safe_dump({"Preprocess": list(operators)}))


def test_a_classifier():
    statement = stated(paddle_clas.DIALECT, PADDLE_CLASSIFIER)
    assert statement.settings == {
        "size": (224, 224),
        "resize": "crop",
        "resize_size": (256, 256),
        "size_rounding": "round",
        "offset_rounding": "floor",
        "align": "start",
        "interpolation": "linear",
        "antialias": False,
        "scale": 0.00392156862745098,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "channels": "RGB",
    }
    assert statement.labels == ("cat", "dog", "7")
    assert not statement.remarks


def test_a_training_configuration_is_read_too():
    text = yaml.safe_dump(
        {"Infer": {"transforms": [{"DecodeImage": {"to_rgb": False}}, {"ResizeImage": {"size": 96}}]}}
    )
    settings = stated(paddle_clas.DIALECT, text).settings
    assert (settings["channels"], settings["size"], settings["resize"]) == ("BGR", (96, 96), "stretch")
    assert (settings["scale"], settings["mean"], settings["std"]) == (1.0, (0.0,), (1.0,))


def test_the_labels_of_a_training_configuration_are_in_a_file_beside_it(tmp_path: Path):
    (tmp_path / "names.txt").write_text("0 cat\n1 dog\n")
    post = {"name": "Topk", "topk": 5, "class_id_map_file": "dataset/names.txt"}
    path = tmp_path / "inference.yml"
    path.write_text(yaml.safe_dump({"Infer": {"transforms": [{"ResizeImage": {"size": 96}}], "PostProcess": post}}))
    assert paddle_clas.DIALECT.read(DescriptionFile.read(path, "inference.yml")).labels == ("cat", "dog")


def test_sizes_of_a_classifier_begin_with_the_width():
    settings = clas({"ResizeImage": {"size": [320, 240]}}, {"CropImage": {"size": [300, 200]}}).settings
    assert (settings["resize_size"], settings["size"]) == ((240, 320), (200, 300))


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        ([{"RandCropImage": {"size": 224}}], "transform_ops: RandCropImage is not supported"),
        ([{"ResizeImage": {"resize_short": 256}}], "no crop follows"),
        ([{"CropImage": {"size": 224}}, {"ResizeImage": {"size": 224}}], "transform_ops: CropImage is supported once"),
        ([{"ResizeImage": {"size": 224, "interpolation": "box"}}], "interpolation 'box' of cv2"),
        ([{"ResizeImage": {"size": 224, "backend": "tpu"}}], "backend 'tpu'"),
        ([{"ResizeImage": {}}], "transform_ops: ResizeImage states no size"),
        ([{"ResizeImage": {"size": 9}}, {"ResizeImage": {"size": 9}}], "second resize"),
        ([{"NormalizeImage": {"scale": "__import__('os').getcwd()"}}], "scale is"),
        ([{"NormalizeImage": {"channel_num": 4}}], "fourth channel of zeros"),
        ([{"NormalizeImage": [1]}], "has the parameters"),
        (["ToCHWImage"], "which is no operator"),
        ([{"NormalizeImage": {"scale": 1}}, {"NormalizeImage": None}], "second normalisation"),
    ],
)
def test_what_cannot_be_followed_is_refused(operators: list[object], message: str):
    with pytest.raises(PreprocessError) as error:
        clas(*operators)
    assert message in str(error.value)
    assert str(error.value).startswith("inference.yml: ")


def test_a_detector_of_photos_in_their_own_aspect_ratio():
    statement = stated(paddle_detection.DIALECT, PADDLE_DETECTOR)
    assert statement.labels == ("person", "bicycle")
    assert (statement.settings["resize"], statement.settings["size"]) == ("letterbox", (800, 1333))
    assert (statement.settings["align"], statement.settings["interpolation"]) == ("start", "cubic")
    assert statement.settings["pad_value"] == pytest.approx((123.675, 116.28, 103.53))  # 0 after normalising
    assert statement.settings["size_rounding"] == "exact"
    (remark,) = statement.remarks
    assert "Preprocess: Resize gives each photo a size of its own" in remark and "800x1333" in remark


def test_a_detector_that_normalises_by_itself_gets_pixels():
    settings = det({"type": "Resize", "target_size": [320, 320], "keep_ratio": False}, {"type": "Permute"}).settings
    assert (settings["size"], settings["resize"]) == ((320, 320), "stretch")
    assert (settings["scale"], settings["mean"], settings["std"]) == (1.0, (0.0,), (1.0,))


def test_borders_after_a_normalisation_of_contradictory_channels_are_refused():
    with pytest.raises(PreprocessError) as error:
        det(
            {"type": "Resize", "target_size": [9, 9]},
            {"type": "NormalizeImage", "mean": [0, 0, 0], "std": [1, 1]},
            {"type": "PadStride", "stride": 8},
        )
    assert "Preprocess: PadStride adds borders, and mean and std" in str(error.value)


def test_a_letterbox_of_a_detector():
    statement = det({"type": "LetterBoxResize", "target_size": [608, 1088]})
    settings = statement.settings
    assert (settings["size"], settings["resize"], settings["align"]) == ((608, 1088), "letterbox", "centre")
    assert (settings["pad_value"], settings["interpolation"]) == (127.5, "area")
    assert not statement.remarks


def test_a_stretched_photo_is_padded_to_the_stride():
    settings = det(
        {"type": "Resize", "target_size": [100, 64], "keep_ratio": False}, {"type": "PadStride", "stride": 32}
    ).settings
    assert (settings["size"], settings["resize_size"], settings["align"]) == ((128, 64), (100, 64), "start")


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        ({"type": "TopDownEvalAffine"}, "Preprocess: TopDownEvalAffine is not supported"),
        ({"type": "Resize", "target_size": [9, 9], "interp": 5}, "interp 5"),
        ({"type": "Resize", "target_size": [9, 9], "interp": [1]}, "interp [1]"),
        ({"type": "Resize"}, "states no size"),
        ({"type": "NormalizeImage"}, "mean is None"),
        ({"type": "NormalizeImage", "norm_type": "max"}, "norm_type 'max'"),
        ({"type": "PadStride", "stride": 10**9}, "the stride 1000000000"),
    ],
)
def test_an_operator_of_a_detector_that_cannot_be_followed_is_refused(operator: object, message: str):
    with pytest.raises(PreprocessError) as error:
        det(operator)
    assert message in str(error.value)


def test_a_segmenter():
    statement = stated(paddle_seg.DIALECT, PADDLE_SEGMENTER)
    assert statement.settings["size"] == (224, 398)
    assert (statement.settings["mean"], statement.settings["std"]) == ((0.5,), (0.5,))
    assert statement.settings["scale"] == 1 / 255
    assert (statement.settings["resize"], statement.labels) == ("stretch", None)


def test_a_segmenter_with_borders():
    transforms = [{"type": "ResizeByLong", "long_size": 128}, {"type": "Padding", "target_size": [128, 128]}]
    statement = stated(paddle_seg.DIALECT, yaml.safe_dump({"Deploy": {"transforms": transforms}}))
    assert (statement.settings["resize"], statement.settings["align"]) == ("letterbox", "start")
    assert statement.settings["pad_value"] == 127.5
    assert not statement.remarks


@pytest.mark.parametrize(
    "data", ["[]", "3", "PreProcess: 1", "Deploy: {transforms: [Resize]}", "Preprocess: [1]", "{}"]
)
def test_another_file_is_not_recognised(data: str):
    file = DescriptionFile(Path("inference.yml"), "inference.yml", data, yaml.safe_load(data))
    assert not any(module.DIALECT.recognises(file) for module in (paddle_clas, paddle_detection, paddle_seg))
