"""Models with other inputs beside the picture: which one is the picture, and what the others are fed."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest

from helpers.models import GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, C, build, cnn, images, run, session, tensors, weight
from onnx_xcam import Explainer, check, contract, inspect, instrument
from onnx_xcam.errors import InputError
from onnx_xcam.feeds import parse_value
from onnx_xcam.runtime import open_session

pytestmark = pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")  # blank maps are none of its business

POOLED = "a = Relu(c2)  pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  "
GATED = "g = Mul(flat, gate)  l = Gemm<transB=1>(g, fc, fb)  logits = Mul(l, t)"
"""flat [N,4] is multiplied by gate, the logits by t; so the gradient is t gate[c] fc[k,c] / 36."""
OTHERS = "float[N,4] gate, float t"


def gated(inputs=f"float[N,3,12,12] image, {OTHERS}", text=GATED, n="N", **more):
    return build(
        TRUNK + POOLED + text,
        {**TRUNK_WEIGHTS, **GAP_WEIGHTS},
        inputs=inputs,
        outputs=f"float[{n}, {C}] logits",
        **more,
    )


def explainer(model, **inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Explainer(model, preprocess="unit", inputs=inputs)


def feeds_of(model, feeds):
    """All outputs of the instrumented model on these feeds, by name."""
    made = session(instrument(model, emit=("map",)))
    names = [out.name for out in made.get_outputs()]
    return dict(zip(names, made.run(names, {name: np.asarray(value) for name, value in feeds.items()}), strict=True))


GATE = np.array([[1, -2, 0.5, 3], [0.25, 1, 2, -1], [1, 1, 1, 1]], np.float32)


# --- what is fed reaches the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("images_given", [1, 3])
@pytest.mark.parametrize("kind", ["row", "without the axis", "number", "list", "file", "path", "row each"])
def test_the_others_are_fed_to_every_image(kind, images_given, tmp_path):
    np.save(tmp_path / "gate.npy", GATE[0])
    given = {
        "row": GATE[:1],
        "without the axis": GATE[0],
        "number": 2,
        "list": [1, -2, 0.5, 3],
        "file": str(tmp_path / "gate.npy"),
        "path": tmp_path / "gate.npy",
        "row each": GATE[:images_given],
    }[kind]
    gate = {"number": np.full((1, 4), 2, np.float32), "row each": GATE[:images_given]}.get(kind, GATE[:1])
    gate = np.broadcast_to(gate, (images_given, 4))
    batch, model = images(images_given), gated()
    explanation = explainer(model, gate=given, t=0.5).explain(batch, [1, -1])
    found = feeds_of(model, {"image": batch, "gate": gate, "t": np.float32(0.5), "xcam_class": np.array([[1, -1]])})
    np.testing.assert_array_equal(explanation.scores, found["xcam_scores"])
    np.testing.assert_array_equal(explanation.maps_of(0), found["xcam_map"])
    flat = tensors(cnn("gap"), ["flat"], batch)["flat"]  # of the same trunk
    fc, fb = weight(model, "fc"), weight(model, "fb")
    np.testing.assert_allclose(explanation.scores[:, 0], 0.5 * ((flat * gate) @ fc[1] + fb[1]), rtol=1e-4, atol=1e-6)


def test_images_of_several_runs_have_their_own_rows(monkeypatch):
    """Five images, two at a time: each run takes its own part of what is given for each image."""
    monkeypatch.setattr("onnx_xcam.runtime.batching.IMAGES_PER_RUN", 2)
    gate = np.arange(20, dtype=np.float32).reshape(5, 4)
    batch, model = images(5), gated()
    explanation = explainer(model, gate=gate, t=1).explain(batch, [0, 2])
    found = feeds_of(model, {"image": batch, "gate": gate, "t": np.float32(1), "xcam_class": np.array([[0, 2]])})
    np.testing.assert_allclose(explanation.scores, found["xcam_scores"], rtol=1e-5)
    np.testing.assert_allclose(explanation.maps_of(0), found["xcam_map"], rtol=1e-5)


@pytest.mark.parametrize("given", [GATE[0], GATE[:1], GATE[:2], GATE])
def test_a_fixed_batch(given):
    """Batch 2, three images: the last run is padded, and so are the rows."""
    model = gated("float[2,3,12,12] image, float[2,4] gate, float t", n=2)
    batch = images(3)
    explanation = explainer(model, gate=given, t=1).explain(batch, [0, 2])
    gate = {1: GATE[[0, 0, 0]], 2: GATE[[0, 1, 0]], 3: GATE}[len(np.atleast_2d(given))]
    open_batch = gated()
    found = feeds_of(open_batch, {"image": batch, "gate": gate, "t": np.float32(1), "xcam_class": np.array([[0, 2]])})
    np.testing.assert_allclose(explanation.scores, found["xcam_scores"], rtol=1e-5)
    np.testing.assert_allclose(explanation.maps_of(0), found["xcam_map"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("given", [GATE[0], GATE[:1], GATE[:2]])
@pytest.mark.parametrize("symbol", ["unk__7", None])
def test_open_axes_that_no_symbol_tells(symbol, given):
    """Some exporters number the open axes through, others leave them without a name."""
    model = gated("float[unk__6,3,12,12] image, float[unk__7,4] gate, float t", n="M")
    if symbol is None:
        for value in model.graph.input[:2]:
            value.type.tensor_type.shape.dim[0].ClearField("dim_param")
    expected = explainer(gated(), gate=given, t=1).explain(images(2)).scores
    np.testing.assert_array_equal(explainer(model, gate=given, t=1).explain(images(2)).scores, expected)


def test_rows_that_are_not_images(batch):
    """As in zero-shot classifiers: a row for each class, whose number is as open as that of the images."""
    model = build(
        TRUNK + POOLED + "turned = Transpose(prompts)  logits = MatMul(flat, turned)",
        TRUNK_WEIGHTS,
        inputs="float[N,3,12,12] image, float[T,4] prompts",
        outputs="float[N,T] logits",
    )
    for count in (1, 2, 3):
        found = explainer(model, prompts=GATE[:count]).explain(batch, [0, count - 1])
        expected = feeds_of(model, {"image": batch, "prompts": GATE[:count], "xcam_class": [[0, count - 1]]})
        np.testing.assert_array_equal(found.maps_of(0), expected["xcam_map"])
        np.testing.assert_array_equal(found.scores, expected["xcam_scores"])
        assert expected["logits"].shape == (2, count)


def test_rows_for_another_number_of_images():
    made = explainer(gated(), gate=GATE, t=1)
    for count in (1, 2):
        with pytest.raises(InputError, match=rf"'gate' is given 3 rows for {count} images?; give one row"):
            made.explain(images(count))
    assert len(made.explain(images(3)).scores) == 3


TYPES = [
    "float16",
    "float32",
    "float64",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
]


def typed(kind, shape="N,4"):
    name = {"float32": "float", "float64": "double"}.get(kind, kind)
    text = f"gate = Cast<to=1>(raw)  t = Constant<value_float=1.0>()  {GATED}"
    return gated(f"float[N,3,12,12] image, {name}[{shape}] raw", text)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_of_number(kind):
    values = np.array([1, 0, 1, 1] if kind == "bool" else [1, 0, 7, 100], kind)
    expected = explainer(gated(), gate=values.astype(np.float32), t=1).explain(images(2), [0, 1]).scores
    given = [values, values.tolist(), parse_value(json.dumps(values.tolist()).strip("[]"))]
    for value in given:
        found = explainer(typed(kind), raw=value).explain(images(2), [0, 1])
        np.testing.assert_array_equal(found.scores, expected)


def test_notes_say_what_is_fed():
    notes = " ".join(explainer(gated(), gate=GATE[0], t=0.5).notes)
    assert "Input: 'gate' is fed the given float32 [1,4]." in notes
    assert "Input: 't' is fed 0.5 (float32 [])." in notes


def test_inspect_names_them():
    assert "Inputs: the picture goes to 'image'; the others are given with --input NAME=VALUE ('gate', 't')." in (
        inspect(gated()).notes
    )
    assert not any("Inputs:" in note for note in inspect(cnn("gap")).notes)
    seen = "s = Size(seen)  ts = Cast<to=1>(s)  "
    two = inspect(
        gated(
            "float[N,3,12,12] image, float[N,1,12,12] seen, float[N,4] gate", seen + GATED.replace("(l, t)", "(l, ts)")
        )
    )
    assert two.notes[-1] == (
        "Inputs: the picture goes to one that is not given; the others are given with --input NAME=VALUE."
    )


def test_an_instrumented_model_takes_them_too(batch):
    model = gated()
    expected = explainer(model, gate=GATE[0], t=2).explain(batch, [0, 1])
    found = explainer(instrument(model), gate=GATE[0], t=2).explain(batch, [0, 1])
    np.testing.assert_array_equal(found.maps_of(0), expected.maps_of(0))
    with pytest.raises(InputError, match=r"not given as the input 'xcam_class' but with --class"):
        explainer(instrument(model), gate=GATE[0], t=2, xcam_class=[[1]])


def test_an_input_with_a_default(batch):
    """It need not be given, and may be."""
    model = gated()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "t"))
    for given, t in (({}, 0.5), ({"t": 3}, 3)):
        found = explainer(model, gate=GATE[0], **given).explain(batch, [1]).scores
        expected = explainer(gated(), gate=GATE[0], t=t).explain(batch, [1]).scores
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_scalars_keep_their_rank_where_inputs_are_bound(batch):
    """As for CUDA, tried on the CPU: numpy makes [1] of a scalar where it is asked for contiguous memory."""
    model = gated(text=GATED + "  same = Identity(t)")
    model.graph.output.append(onnx.helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, []))
    opened = open_session(instrument(model).SerializeToString(), providers="cpu")
    feeds = {"image": batch, "gate": np.asfortranarray(GATE[:2]), "t": np.asarray(0.5, np.float32)}
    names = ["logits", "xcam_map", "same"]
    for plain, bound in zip(opened._run_plain(feeds, names), opened._run_bound(feeds, names), strict=True):
        assert bound.shape == plain.shape
        np.testing.assert_array_equal(bound, plain)


# --- which one is the picture ----------------------------------------------------------------------------------------


def test_what_is_given_settles_which_one_is_the_picture(batch):
    text = (
        "m = Mul(image, other)  "
        + TRUNK.replace("Conv<pads=[1,1,1,1]>(image", "Conv<pads=[1,1,1,1]>(m")
        + ("a = Relu(c2)  pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc, fb)")
    )
    model = build(
        text, {**TRUNK_WEIGHTS, **GAP_WEIGHTS}, inputs="float[N,3,12,12] other, float[N,3,12,12] image",
    )  # fmt: skip
    with pytest.raises(
        InputError, match=r"could be fed to the input 'other' .* and to the input 'image' .*all but one"
    ):
        explainer(model)
    mask = images(1, seed=8)
    found = explainer(model, other=mask).explain(batch, [1])
    swapped = explainer(model, image=mask).explain(batch, [1])
    feeds = {"image": batch, "other": np.repeat(mask, 2, 0), "xcam_class": np.array([[1]])}
    expected = feeds_of(model, feeds)
    np.testing.assert_array_equal(found.maps_of(0), expected["xcam_map"])
    np.testing.assert_array_equal(swapped.scores, expected["xcam_scores"])
    with pytest.raises(InputError, match=r"no input that a picture can be fed to .* beside those that are given"):
        explainer(model, image=mask, other=mask)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 3, 224, 224), (2, 3)),
        (("N", "C", "H", "W"), (2, 3)),
        ((None, None, None, None), (2, 3)),
        (("N", 1, "H", "W"), (2, 3)),
        (("N", 224, 224, 3), (1, 2)),
        (("N", "H", "W", 3), (1, 2)),
        (("N", 224, 224, "C"), (1, 2)),
        ((1, 28, 28, 1), (1, 2)),
        (("N", 8, 224, 224), None),
        (("N", 13, "H", "W"), None),
        (("N", "H", "W", 13), None),
        (("N", 3, 1, 1), None),
        ((1, 1, 1, 77), None),
        (("N", 3, 224), None),
        ((), None),
    ],
)
def test_one_rule_says_what_a_picture_is(shape, axes):
    assert contract.image_axes(shape) == axes


def test_masks_and_single_pixels_are_no_pictures(batch):
    """A bool mask and a factor for each channel have four axes too, but need no answer on which one is the picture."""
    text = (
        "mask = Cast<to=1>(seen)  m = Mul(image, mask)  "
        + TRUNK.replace("(image", "(m")
        + (
            "a0 = Relu(c2)  a = Mul(a0, gain)  pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  "
            "logits = Gemm<transB=1>(flat, fc, fb)"
        )
    )
    model = build(
        text, {**TRUNK_WEIGHTS, **GAP_WEIGHTS},
        inputs="bool[N,1,12,12] seen, float[N,3,12,12] image, float[N,4,1,1] gain",
    )  # fmt: skip
    found = explainer(model, seen=True, gain=1).explain(batch, [1])
    np.testing.assert_allclose(found.scores, run(instrument(cnn("gap")), batch, [[1]])["xcam_scores"], rtol=1e-6)


# --- what does not fit -----------------------------------------------------------------------------------------------


def test_missing_values_are_one_error():
    with pytest.raises(
        InputError, match=r"needs the input 't' \(float32 \[\]\) beside .*'image': give it with --input t=F"
    ):
        explainer(gated(), gate=GATE[0])
    with pytest.raises(
        InputError,
        match=r"needs the input 'gate' \(float32 \[N,4\]\) and the input 't' \(float32 \[\]\).*--input NAME=",
    ) as caught:
        explainer(gated())
    assert "\n" not in str(caught.value)
    assert 'inputs={"NAME": array}' in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"gat": 1, "t": 1}, r"no input 'gat' \(did you mean 'gate'\?\); its inputs are 'image', 'gate', 't'"),
        ({"gate": np.ones((1, 5)), "t": 1}, r"'gate' \(float32 \[N,4\]\) has the shape \[1,5\], which does not fit"),
        ({"gate": np.ones((1, 1, 4)), "t": 1}, r"has the shape \[1,1,4\], which does not fit"),
        ({"gate": np.ones((0, 4)), "t": 1}, r"has the shape \[0,4\], which does not fit"),
        ({"gate": "nowhere.npy", "t": 1}, r"'gate' is neither numbers .* nor a file that is there: 'nowhere.npy'"),
        ({"gate": [[1, 2], [3]], "t": 1}, "value of the input 'gate' is no array"),
        ({"gate": ["a", "b"], "t": 1}, "value of the input 'gate' holds <U1, not numbers"),
        ({"gate": None, "t": 1}, "holds object, not numbers"),
        ({"gate": 1j, "t": 1}, "holds complex128, not numbers"),
        ({"gate": 1, "t": True}, r"'t' \(float32 \[\]\) holds bool, which is not float32"),
        ({"gate": 1e300, "t": 1}, "holds float64, which is not float32 or does not fit"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(inputs, said):
    with pytest.raises(InputError, match=said) as caught:
        explainer(gated(), **inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("int64", 0.5), ("int64", 1.0), ("int8", 300), ("uint8", -1), ("bool", 2), ("float16", 70000), ("int64", True)],
)
def test_numbers_that_would_change_are_refused(kind, value):
    with pytest.raises(
        InputError, match=rf"'raw' \({kind} \[N,4\]\) holds \w+, which is not {kind} or does not fit in"
    ):
        explainer(typed(kind), raw=value)


def test_one_number_for_an_open_size():
    with pytest.raises(InputError, match=r"One number cannot fill the input 'raw' \(int64 \[N,L\]\)"):
        explainer(typed("int64", "N,L"), raw=1)
    assert explainer(typed("int64", "N,L"), raw=[1, 1, 1, 1]).explain(images(2)).scores.shape == (2, 1)


def pickled(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


BAD_FILES = {
    "pickled": (pickled, "something else, or holds Python objects"),
    "text": (lambda path: path.write_text("1 2 3 4"), "cannot be read as a .npy file"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as a .npy file"),
    "damaged archive": (lambda path: path.write_bytes(b"PK\3\4" + bytes(99)), "cannot be read as a .npy file"),
    "cut": (
        lambda path: (np.save(path, GATE), path.write_bytes(path.read_bytes()[:-8])), "cannot be read as a .npy file",
    ),
    "cut in its head": (
        lambda path: (np.save(path, GATE), path.write_bytes(path.read_bytes()[:40])), "cannot be read as a .npy file",
    ),
    "larger than it is": (
        lambda path: (np.save(path, GATE), path.write_bytes(path.read_bytes().replace(b"(3, 4)", b"(3000000000, 4)"))),
        "cannot be read as a .npy file",
    ),
    "strings": (lambda path: np.save(path, np.array(["a"])), "holds <U1, not numbers"),
    "folder": (lambda path: path.mkdir(), "cannot be read as a .npy file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_FILES)
def test_files_that_cannot_be_read(kind, tmp_path):
    write, said = BAD_FILES[kind]
    write(tmp_path / "bad.npy")
    with pytest.raises(InputError, match=said) as caught:
        explainer(gated(), gate=tmp_path / "bad.npy", t=1)
    gc.collect()  # a file that was left open is an error then
    assert "'gate'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_arrays_in_one_file(tmp_path):
    np.savez(tmp_path / "two.npz", a=GATE, b=GATE)
    with pytest.raises(InputError, match=r"two.npz', given for the input 'gate', holds several arrays"):
        explainer(gated(), gate=tmp_path / "two.npz", t=1)


def test_files_of_every_layout(tmp_path):
    np.save(tmp_path / "t.npy", np.float32(2))
    np.save(tmp_path / "gate.npy", np.asfortranarray(GATE[:2]))
    found = explainer(gated(), gate=tmp_path / "gate.npy", t=tmp_path / "t.npy").explain(images(2), [0])
    expected = explainer(gated(), gate=GATE[:2], t=2).explain(images(2), [0])
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_an_input_that_is_no_tensor_of_numbers():
    model = gated(
        f"float[N,3,12,12] image, {OTHERS}, string[1] name",
        "s = Size(name)  n = Cast<to=1>(s)  " + GATED.replace("(l, t)", "(l, n)"),
    )
    with pytest.raises(InputError, match=r"needs the input 'name' \(string \[1\]\)"):
        explainer(model, gate=1, t=1)
    with pytest.raises(InputError, match=r"No value can be fed to the input 'name'"):
        explainer(model, gate=1, t=1, name=1)


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", np.array(0.5)),
        ("-3", np.array(-3)),
        ("1,224,224", np.array([1, 224, 224])),
        ("[1, 224]", np.array([1, 224])),
        ("[[1,2],[3,4]]", np.array([[1, 2], [3, 4]])),
        ("[1,2],[3,4]", np.array([[1, 2], [3, 4]])),
        ("true", np.array(True)),
        ("true,false", np.array([True, False])),
        ("1e-3", np.array(1e-3)),
    ],
)
def test_numbers_as_text(text, value):
    found = parse_value(text)
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize(
    "text", ["a.npy", "1.npy", "[1,2", '"x"', "[[1],[2,3]]", "null", "{}", "[]", "", "9" * 40, "[" * 9000]
)
def test_anything_else_is_a_path(text):
    from pathlib import Path

    assert parse_value(text) == Path(text)


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_takes_them():
    report = check(gated(), inputs={"gate": GATE[0], "t": 2})
    assert report.passed, report.text()
    assert check(gated()).passed, "random numbers"
    assert check(gated(), images(2), inputs={"gate": GATE[:2], "t": 2}).passed
    with pytest.raises(InputError, match="needs the input 't'"):
        check(gated(), images(2), inputs={"gate": GATE[:2]})
    with pytest.raises(InputError, match="no input 'x'"):
        check(gated(), inputs={"x": 1})
    with pytest.raises(InputError, match="3 rows for 2 images"):
        check(gated(), images(2), inputs={"gate": GATE, "t": 2})


def test_check_repeats_rows_for_a_fixed_batch():
    model = gated("float[2,3,12,12] image, float[2,4] gate, float t", n=2)
    assert check(model, inputs={"gate": GATE[0], "t": 2}).passed
    assert check(model, images(2), inputs={"gate": GATE[:2], "t": 2}).passed


# --- command line ----------------------------------------------------------------------------------------------------


def command(*words):
    line = [sys.executable, "-m", "onnx_xcam", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.fixture
def files(tmp_path):
    import cv2

    onnx.save(gated(), tmp_path / "m.onnx")
    np.save(tmp_path / "gate.npy", GATE[0])
    cv2.imwrite(str(tmp_path / "p.png"), np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8))
    return tmp_path


def test_on_the_command_line(files):
    import cv2

    given = ["--input", f"gate={files / 'gate.npy'}", "--input", "t=0.5", "--preprocess", "unit"]
    done = command("explain", files / "m.onnx", files / "p.png", "-o", files / "out", "--class", 1, *given)
    assert done.returncode == 0, done.stderr
    assert "'t' is fed 0.5" in done.stderr
    record = json.loads((files / "out" / "results.jsonl").read_text())
    image_rgb = cv2.imread(str(files / "p.png"))[..., ::-1]
    expected = explainer(gated(), gate=GATE[0], t=0.5).explain([image_rgb], [1]).scores
    np.testing.assert_allclose(record["scores"], expected[0], rtol=1e-6)
    done = command("check", files / "m.onnx", files / "p.png", *given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all checks passed" in done.stdout


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        (["--input", "t=0.5"], 1, r"error: The model needs the input 'gate' (float32 [N,4])"),
        (["--input", "t=x.npy", "--input", "gate=1"], 1, "error: The value of the input 't' is neither numbers"),
        (["--input", "t"], 2, "'t' is not NAME=VALUE"),
        (["--input", "=1"], 2, "'=1' is not NAME=VALUE"),
        (["--input", "t="], 2, "'t=' is not NAME=VALUE"),
        (["--input", "t=1", "--input", "t=2"], 2, "'t' is given twice"),
    ],
)
def test_mistakes_on_the_command_line(files, given, status, said):
    done = command("explain", files / "m.onnx", files / "p.png", "-o", files / "out", *given)
    assert done.returncode == status
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
