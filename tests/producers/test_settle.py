"""What is followed where several sources speak, what gives way to the model, and what is said of it."""

import numpy as np
import pytest

from onnx_xcam.errors import LabelsError, PreprocessError
from onnx_xcam.images import PRESETS, InputSpec, Preprocess
from onnx_xcam.producers.assume import how_likely
from onnx_xcam.producers.settle import input_spec, settle
from onnx_xcam.producers.statement import Statement

RGB_MEAN = (0.1, 0.2, 0.3)


def spec(shape=("N", 3, 224, 224), dtype=np.float32):
    return InputSpec.from_shape("image", dtype, shape)


def said(source, evidence="file", *, labels=None, binding=False, **settings):
    one = Statement.of(source, settings, labels)
    return Statement(one.source, one.settings, one.labels, (), evidence, binding)


def test_each_group_comes_from_the_strongest_source_that_states_it():
    found = settle(
        [
            said("A", "metadata", mean=0.5),
            said("B", scale=2, std=3, interpolation="cubic"),
            said("C", interpolation="nearest", resize="letterbox", pad_value=114),
        ],
        spec(),
        None,
    )
    assert found.preprocess == Preprocess(resize="letterbox", pad_value=114, interpolation="cubic", mean=(0.5,))
    kinds = {group: (origin.kind, origin.source) for group, origin in found.origins.items()}
    assert kinds == {
        "size": ("model", "the model's input"),
        "geometry": ("file", "C"),
        "interpolation": ("file", "B"),
        "values": ("metadata", "A"),
        "channels": ("assumed", ""),
        "layout": ("model", "the model's input"),
        "labels": ("none", ""),
    }
    assert found.assumed == ("channels",)
    assert found.origins["values"].contradictions == (
        "B says values 0..170, but A says -0.5..254.5, which is followed.",
    )
    assert found.origins["interpolation"].doubts == (
        "C says interpolation nearest, but B says cubic, which is followed.",
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"scale": "1/255", "mean": 0.5, "std": 0.5}, {"mean": 127.5, "std": 127.5}, True),
        ({"scale": "1/255", "mean": [0.485, 0.456, 0.406]}, {"scale": "1/255", "mean": 0.449}, False),
        ({"scale": "1/255"}, {"scale": 1}, False),
        ({"resize": "crop", "crop_fraction": 0.875}, {"resize": "crop", "resize_size": 256, "size": 224}, True),
        ({"resize": "crop", "crop_fraction": 0.875}, {"resize": "crop"}, False),
        ({"resize": "crop"}, {"resize": "crop", "offset_rounding": "floor"}, True),
        ({"resize": "stretch"}, {"resize": "letterbox"}, False),
        ({"resize": "letterbox", "pad_value": 114}, {"resize": "letterbox"}, False),
        ({"resize": "stretch", "pad_value": 114}, {"resize": "stretch"}, True),
        ({"channels": "BGR"}, {"channels": "RGB"}, False),
    ],
)
def test_only_what_has_another_effect_contradicts(one, other, same):
    for first, second in ((one, other), (other, one)):
        found = settle([said("A", **first), said("B", **second)], spec(), None)
        groups = [group for group, origin in found.origins.items() if origin.contradictions]
        assert bool(groups) is not same


def test_values_in_the_order_of_their_own_source_are_turned_to_the_order_that_is_followed():
    values = {"scale": "1/255", "mean": RGB_MEAN, "std": 1}
    found = settle([said("A", channels="BGR"), said("B", channels="RGB", **values)], spec(), None)
    assert (found.preprocess.channels, found.preprocess.mean) == ("BGR", RGB_MEAN[::-1])
    found = settle([said("A", channels="BGR"), said("B", **values)], spec(), None)
    assert found.preprocess.mean == RGB_MEAN, "where it states no order, its values are the input's own"


def test_the_graph_goes_before_an_assumption_and_never_before_a_statement():
    graph = said("the graph", "graph", scale=1)
    assert settle([graph], spec(), None).preprocess == PRESETS["imagenet"].replace(scale=1, mean=0, std=1)
    for statement in (said("A", scale="1/255"), said("the argument", "argument", scale="1/255")):
        found = settle([statement, graph], spec(), None)
        assert found.preprocess.scale == 1 / 255
        assert len(found.origins["values"].doubts) == 1


def test_what_the_user_says_goes_before_files_without_a_word():
    found = settle([said("the argument", "argument", scale="1/255"), said("A", scale=1)], spec(), None)
    assert (len(found.origins["values"].contradictions), found.origins["values"].doubts) == (1, ())


def test_a_size_that_the_model_does_not_take_gives_way_and_the_part_of_the_photo_stays():
    stated = {"size": 224, "resize": "crop", "resize_size": 256}
    found = settle([said("A", **stated)], spec(("N", 3, 112, 112)), None)
    assert (found.size, found.preprocess.size, found.preprocess.resize_size) == ((112, 112), None, (128, 128))
    assert found.origins["size"].doubts == (
        "A says size 224x224, but the model's input is fixed to 112x112, which is used.",
    )
    with pytest.raises(PreprocessError, match=r"size 224x224.*fixed to 112x112"):
        settle([said("the argument", "argument", binding=True, **stated)], spec(("N", 3, 112, 112)), None)
    half = settle([said("A", **stated)], spec(("N", 3, 112, "w")), None)
    assert (half.size, half.preprocess.size) == ((112, 224), (112, 224))


def test_an_open_size():
    found = settle([said("A", size=[96, 128])], spec(("N", 3, "h", "w")), None)
    assert (found.size, found.preprocess.size, found.origins["size"].source) == ((96, 128), (96, 128), "A")
    found = settle([], spec(("N", 3, "h", "w")), None)
    assert (found.size, found.preprocess.size, found.origins["size"].kind) == ((224, 224), None, "assumed")


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((1, 3, 224, 224), np.float32, PRESETS["imagenet"]),
        ((1, 3, 224, 256), np.float32, PRESETS["imagenet"]),
        ((1, 3, 48, 192), np.float32, PRESETS["imagenet"].replace(resize="stretch", crop_fraction=1.0)),
        ((1, 256, 128, 3), np.float32, PRESETS["imagenet"].replace(resize="stretch", crop_fraction=1.0)),
        ((1, 1, 28, 28), np.float32, PRESETS["gray"]),
        ((1, 3, 224, 224), np.uint8, PRESETS["raw"]),
        ((1, 3, 224, 224), np.int8, PRESETS["imagenet"]),
        ((1, 1, 224, 224), np.uint8, PRESETS["raw"].replace(channels="GRAY")),
    ],
)
def test_what_is_assumed(shape, dtype, expected):
    assert settle([], spec(shape, dtype), None).preprocess == expected


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((1, 3, 640, 640), np.float32, PRESETS["yolo"]),
        ((1, 3, 480, 640), np.float32, PRESETS["yolo"]),
        ((1, 640, 640, 3), np.uint8, PRESETS["raw"]),
        ((1, 1, 640, 640), np.float32, PRESETS["gray"]),
    ],
)
def test_a_model_that_looks_at_the_whole_picture_gets_all_of_it(shape, dtype, expected):
    settled = settle([], spec(shape, dtype), None, whole=True)
    assert settled.preprocess == expected
    assert how_likely(settled.spec, settled.size, whole=True) is None


def test_channels_of_another_number_give_way_to_the_model():
    grey, colour = spec((1, 1, 28, 28)), spec()
    found = settle([said("A", channels="RGB", scale="1/255", mean=[0.5] * 3)], grey, None)
    assert (found.preprocess.channels, found.preprocess.mean) == ("GRAY", (0.5,))
    assert found.origins["channels"].doubts == ("A says channels RGB, but the model's input has 1; GRAY is used.",)
    assert settle([said("A", channels="GRAY")], colour, None).preprocess.channels == "RGB"
    for shape, settings, words in (
        (
            (1, 13, 28, 28),
            {"channels": "BGR"},
            "BGR, but the model's input has 13; the order of the file is used",
        ),
        (
            (1, 3, 28, 28),
            {"bands": (2, 1, 0, 3)},
            "bands 2, 1, 0, 3, but the model's input has 3; RGB is used",
        ),
    ):
        found = settle([said("A", **settings)], spec(shape), None)
        assert (found.preprocess.channels, found.preprocess.bands) == ("RGB", None)
        assert found.origins["channels"].doubts == (f"A says channels {words}.",)
        kept = settle([said("A", binding=True, **settings)], spec(shape), None).preprocess
        assert all(getattr(kept, name) == value for name, value in settings.items()), "what the user says is kept"
    with pytest.raises(PreprocessError, match=r"A states mean \[0.1, 0.2, 0.3\] for 3 channels, .* has one"):
        settle([said("A", channels="RGB", mean=RGB_MEAN)], grey, None)


def test_layout():
    statements = [said("A", layout="NHWC")]
    found = input_spec("image", np.float32, (1, None, None, None), statements)
    assert (found.layout, settle(statements, found, None).origins["layout"].source) == ("NHWC", "A")
    fixed = input_spec("image", np.float32, (1, 3, 8, 8), statements)
    settled = settle(statements, fixed, None)
    assert (fixed.layout, settled.preprocess.layout, len(settled.origins["layout"].doubts)) == ("NCHW", None, 1)


def test_a_refusal_counts_only_where_nothing_stronger_states_the_same():
    refusal = Statement("A", refusal=PreprocessError("A: the step rotate is not supported"))
    with pytest.raises(PreprocessError, match="rotate"):
        settle([refusal], spec(), None)
    with pytest.raises(PreprocessError, match="rotate"):
        settle([said("B", scale=1), refusal], spec(), None)
    whole = Statement.whole("the argument", PRESETS["unit"])
    assert settle([whole, refusal], spec(), None).preprocess == PRESETS["unit"]
    of_labels = Statement("A", refusal=LabelsError("A: damaged"))
    with pytest.raises(LabelsError, match="damaged"):
        settle([whole, of_labels], spec(), 2)
    assert settle([said("B", labels=("x", "y")), of_labels], spec(), 2).labels == ("x", "y")


def test_labels_that_were_found_count_only_if_they_are_as_many_as_the_classes():
    statements = [
        said("A", labels=("background", "x", "y")),
        said("B", labels=("x", "y")),
        said("C", labels=("y", "x")),
    ]
    found = settle(statements, spec(), 2)
    assert (found.labels, found.origins["labels"].source) == (("x", "y"), "B")
    assert found.label_remarks == (
        "The labels from A are 3, but the model has 2 classes (the first, 'background', may be one that this model "
        "has no class for), so they are not used.",
    )
    assert found.origins["labels"].contradictions == (
        "C has the label 'x' for class 1, but B has it for class 0, which is followed.",
    )
    assert settle(statements, spec(), None).labels == ("background", "x", "y")
    found = settle([*statements[1:], statements[0]], spec(), 2)
    assert (found.label_remarks, len(found.origins["labels"].doubts)) == ((), 1), "what is not needed is not missed"
    assert len(found.origins["labels"].contradictions) == 2
    with pytest.raises(LabelsError, match="given as an argument are 3, but the model has 2 classes"):
        settle([said("the argument", labels=("a", "b", "c"), binding=True)], spec(), 2)


def test_other_words_for_the_same_classes_are_no_contradiction():
    statements = [
        said("A", labels=("Tench, Tinca tinca", "crane", "crane")),
        said("B", labels=("tench", "Kran", "crane")),
    ]
    assert settle(statements, spec(), 3).origins["labels"].contradictions == ()
    number = settle([said("A", labels=("age",))], spec(), 2, is_number=True)
    assert (number.labels, number.label_remarks) == (None, ("A has one label, which names a number and no class.",))


def test_remarks_count_where_the_source_is_followed_or_might_have_been():
    remark = ("A: turn is passed over.",)
    silent = Statement("A", remarks=remark)
    speaking = Statement("A", Statement.whole("A", PRESETS["unit"]).settings, remarks=remark)
    assert settle([silent], spec(), None).remarks == remark
    assert settle([speaking], spec(), None).remarks == remark
    stronger = Statement.whole("the argument", PRESETS["unit"])
    assert settle([stronger, silent], spec(), None).remarks == ()
    assert settle([stronger, speaking], spec(), None).remarks == ()


NORMALISED = {"scale": "1/255", "mean": 0.5, "std": 0.5}


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("setting", ["mean", "std", "pad_value"])
def test_numbers_for_other_channels_than_the_model_has_are_refused_where_they_stand(channels, setting):
    several = [0.1, 0.2, 0.3, 0.4][: 4 if channels == 3 else 3]
    with pytest.raises(PreprocessError, match=f"^A states {setting} .* for {len(several)} channels, but .* has"):
        settle([said("A", scale=2, resize="letterbox", **{setting: several})], spec(("N", channels, 8, 8)), None)


def test_numbers_for_other_channels_do_not_matter_where_a_stronger_source_states_the_values():
    found = settle([said("A", "metadata", mean=120), said("B", mean=[80, 120, 160])], spec(("N", 1, 8, 8)), None)
    assert found.preprocess.mean == (120,)
    assert len(found.origins["values"].contradictions) == 1


def test_values_that_whole_numbers_cannot_carry_give_way_to_pixels():
    """A model that takes uint8 normalises by itself, and the file beside it is that of the network within."""
    sources = [said("A", interpolation="cubic", **NORMALISED), said("the graph", "graph", scale=1)]
    for statements, kind in ((sources, "graph"), (sources[:1], "assumed")):
        found = settle(statements, spec(dtype=np.uint8), None)
        assert found.preprocess.is_raw
        assert found.preprocess.interpolation == "cubic", "the rest of the file is followed"
        assert found.origins["values"].kind == kind
        assert found.origins["values"].doubts == (
            "A says values -1..1, but the model's input holds uint8, which cannot carry them; it gets 0..255.",
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float16])
def test_values_that_the_input_can_carry_are_followed(dtype):
    values = {"scale": 1, "mean": 128} if dtype == np.int8 else NORMALISED if dtype == np.float16 else {"scale": 0.5}
    found = settle([said("A", **values)], spec(dtype=dtype), None)
    assert found.origins["values"].source == "A"
    assert found.origins["values"].contradictions == ()


def test_values_that_the_user_states_never_give_way():
    found = settle([said("A", "argument", **NORMALISED)], spec(dtype=np.uint8), None)
    assert found.preprocess.std == (0.5,)
