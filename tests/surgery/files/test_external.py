"""Weights in files beside the model: found wherever a model can have them, and shared, copied or put inside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from helpers.external_models import PLACES, model_with, save_external, tensors_of
from helpers.models import build, cnn, props, run, weight
from onnx_xcam import Explainer, check, inspect, instrument, instrument_file
from onnx_xcam.errors import ModelError, OutputError, XcamError
from onnx_xcam.surgery import instrument_bytes
from onnx_xcam.surgery.files import result, wire
from onnx_xcam.surgery.files.source import Source


def same(found, model, batch):
    """Assert that a model, or a file, gives on the batch what this model gives once it is instrumented."""
    expected = run(instrument(model), batch)
    given = run(str(found) if isinstance(found, Path) else found, batch)
    assert list(given) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(given[name], value)


def files_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- every place, every choice ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [True, False], ids=["one file", "a file each, no fields"])
@pytest.mark.parametrize("place", PLACES)
def test_weights_are_found_wherever_a_model_has_them(place, fields, tmp_path, batch):
    model = model_with(place)
    path, _ = save_external(tmp_path / "from", model=model, fields=fields)
    before = files_in(path.parent)
    for choice in ("share", "copy", "inline"):
        out = (path.parent if choice == "share" else tmp_path / choice) / "out.onnx"
        instrument_file(path, out, external_data=choice)
        same(out, model, batch)
        beside = {file.name: content for file, content in files_in(out.parent).items() if file != out}
        if choice == "inline":
            assert beside == {}
            assert not any(tensor.external_data for tensor in tensors_of(onnx.load(out, load_external_data=False)))
        else:
            expected = {file.name: content for file, content in before.items() if choice == "share" or file != path}
            assert beside.items() <= expected.items()
            assert beside == expected or "branch" in place, "only the branch that is never taken needs no weights"
    assert {file: file.read_bytes() for file in before} == before
    same(instrument(path), model, batch)
    assert check(path).passed
    explanation = Explainer(path, preprocess="imagenet").explain(batch)
    np.testing.assert_array_equal(explanation.maps, run(instrument(model), batch)["xcam_map"])


def test_the_files_do_without_the_original(tmp_path, batch):
    path, model = save_external(tmp_path / "from")
    for choice in ("copy", "inline"):
        instrument_file(path, tmp_path / choice / "out.onnx", external_data=choice)
    for old in (tmp_path / "from").iterdir():
        old.unlink()
    for choice in ("copy", "inline"):
        same(tmp_path / choice / "out.onnx", model, batch)


@pytest.mark.parametrize("location", ["weights.bin", "sub/weights.bin", "./weights.bin"])
@pytest.mark.parametrize("choice", ["auto", "share"])
def test_in_the_same_folder_the_weights_are_shared(choice, location, tmp_path, batch):
    path, model = save_external(tmp_path, location)
    before = files_in(tmp_path)
    out = tmp_path / "out.onnx"
    metadata = instrument_file(path, out, external_data=choice)
    assert files_in(tmp_path) == {**before, out: out.read_bytes()}, "no weights are copied or changed"
    assert out.read_bytes().startswith(before[path])
    assert metadata.notes[-1] == f"Weights: shared with the original, in '{location}' beside the result; keep together."
    same(out, model, batch)


@pytest.mark.parametrize("location", ["weights.bin", "sub/weights.bin"])
@pytest.mark.parametrize("choice", ["auto", "copy"])
def test_to_another_folder_the_weights_are_copied(choice, location, tmp_path, batch):
    path, model = save_external(tmp_path / "from", location)
    out = tmp_path / "to" / "deep" / "out.onnx"
    metadata = instrument_file(path, out, external_data=choice)
    assert set(files_in(tmp_path / "to")) == {out, out.parent / location}
    copied, original = out.parent / location, path.parent / location
    assert copied.read_bytes() == original.read_bytes()
    assert not copied.samefile(original)
    assert "copied" in metadata.notes[-1]
    assert out.read_bytes().startswith(path.read_bytes())
    same(out, model, batch)


def test_a_result_in_a_relative_folder(tmp_path, batch, monkeypatch):
    path, model = save_external(tmp_path / "from")
    monkeypatch.chdir(tmp_path / "from")
    for choice, out in (("share", "out.onnx"), ("copy", "../to/out.onnx"), ("inline", "inside.onnx")):
        instrument_file(path.name, out, external_data=choice)
        same(Path(out).resolve(), model, batch)


def test_sharing_needs_the_weights_in_the_results_folder_or_below(tmp_path, batch):
    path, model = save_external(tmp_path / "from")
    with pytest.raises(OutputError, match=r"cannot share '.*from/weights\.bin'.*write the result to '.*from'"):
        instrument_file(path, tmp_path / "to" / "out.onnx", external_data="share")
    assert not (tmp_path / "to").exists()
    above = tmp_path / "out.onnx"
    instrument_file(path, above, external_data="share")
    assert {reference.location for reference in Source(above).references()} == {"from/weights.bin"}
    assert set(files_in(tmp_path)) == {above, path, path.parent / "weights.bin"}
    same(above, model, batch)
    instrument_file(path, tmp_path / "auto.onnx")
    assert (tmp_path / "weights.bin").exists(), "a folder above is another folder: auto copies"


def test_copying_to_where_the_weights_are_leaves_them(tmp_path, batch):
    path, model = save_external(tmp_path)
    before = files_in(tmp_path)
    metadata = instrument_file(path, tmp_path / "out.onnx", external_data="copy")
    assert "there already" in metadata.notes[-1]
    assert files_in(tmp_path) == {**before, tmp_path / "out.onnx": (tmp_path / "out.onnx").read_bytes()}
    same(tmp_path / "out.onnx", model, batch)


def test_inside_is_what_loading_everything_gives(tmp_path):
    path, model = save_external(tmp_path)
    instrument_file(path, tmp_path / "out.onnx", external_data="inline")
    assert onnx.load(tmp_path / "out.onnx") == instrument(path)
    assert onnx.load(tmp_path / "out.onnx").graph.initializer[0] == model.graph.initializer[0]


def test_what_would_be_too_large_is_not_put_inside(tmp_path):
    """A file with holes: it has the size, and takes no space."""
    model = build(
        "s = Add(image, w)  r = Relu(s)  p = GlobalAveragePool(r)  logits = Flatten(p)", {"w": (1, 3, 12, 12)}
    )
    path, _ = save_external(tmp_path / "from", model=model)
    large = onnx.ModelProto.FromString(path.read_bytes())
    large.graph.initializer.add(name="huge", data_type=TensorProto.UINT8, dims=[1 << 31], data_location=1)
    large.graph.initializer[-1].external_data.add(key="location", value="huge.bin")
    path.write_bytes(large.SerializeToString())
    with (tmp_path / "from" / "huge.bin").open("wb") as file:
        file.truncate(1 << 31)
    out = tmp_path / "to" / "out.onnx"
    with pytest.raises(OutputError, match=r"would have 2\.15 GB .* more than 2\.147 GB; share or copy"):
        instrument_file(path, out, external_data="inline")
    assert not out.parent.exists()
    instrument_file(path, path.parent / "out.onnx")
    assert inspect(path).score == "logits"


def test_the_limit_of_a_file_is_exact(tmp_path, monkeypatch):
    path, _ = save_external(tmp_path)
    out = tmp_path / "out.onnx"
    instrument_file(path, out, external_data="inline")
    monkeypatch.setattr(result, "LARGEST", out.stat().st_size)
    instrument_file(path, out, external_data="inline")
    monkeypatch.setattr(result, "LARGEST", out.stat().st_size - 1)
    with pytest.raises(OutputError, match="more than"):
        instrument_file(path, out, external_data="inline")


@pytest.mark.slow
def test_a_model_in_memory_that_no_file_can_hold(tmp_path):
    """Protobuf writes no more than 2 GiB, and cannot even tell the size of more. Takes 7 GB of memory."""
    model = cnn("gap")
    model.graph.initializer.add(name="huge", data_type=TensorProto.UINT8, dims=[1 << 31], raw_data=bytes(1 << 31))
    assert inspect(model).score == "logits"
    for call in (instrument_bytes, check, Explainer, lambda m: instrument_file(m, tmp_path / "out.onnx")):
        with pytest.raises(ModelError, match="larger than the 2 GB"):
            call(model)


def test_an_unknown_choice(tmp_path):
    path, _ = save_external(tmp_path)
    with pytest.raises(XcamError, match="auto, share, copy, inline, not 'link'"):
        instrument_file(path, tmp_path / "out.onnx", external_data="link")


# --- small values outside --------------------------------------------------------------------------------------------


def test_small_values_are_read_and_large_ones_are_not(tmp_path, batch, monkeypatch):
    """A Reshape target in another file is known to the surgery (ONNX Runtime wants it inside); weights stay unread."""
    head = "flat = Reshape(a, target)  logits = Gemm<transB=1>(flat, big)"
    weights = {"target": np.array([-1, 144]), "big": (5, 144)}
    model = cnn(head, weights=weights)
    path, _ = save_external(tmp_path, model=model)
    proto = onnx.ModelProto.FromString(path.read_bytes())
    target = next(tensor for tensor in proto.graph.initializer if tensor.name == "target")
    (tmp_path / "target.bin").write_bytes(numpy_helper.to_array(target).tobytes())
    target.ClearField("raw_data")
    target.data_location = TensorProto.EXTERNAL
    target.external_data.add(key="location", value="target.bin")
    path.write_bytes(proto.SerializeToString())
    assert next(t for t in Source(path).skeleton().graph.initializer if t.name == "target") == next(
        t for t in model.graph.initializer if t.name == "target"
    )
    out = tmp_path / "out.onnx"
    instrument_file(path, out, external_data="inline")
    same(out, model, batch)
    monkeypatch.setattr(wire, "PAYLOAD_LIMIT", 1000)
    left = {t.name for t in tensors_of(Source(path).skeleton()) if t.data_location == TensorProto.EXTERNAL}
    assert left == {"big"}


# --- what must not be overwritten ------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["auto", "copy"])
def test_external_data_does_not_replace_another_file(choice, tmp_path):
    path, _ = save_external(tmp_path / "from")
    other = tmp_path / "to" / "weights.bin"
    other.parent.mkdir()
    other.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"weights\.bin' exists already"):
        instrument_file(path, tmp_path / "to" / "out.onnx", external_data=choice)
    assert other.read_bytes() == b"precious"
    assert [p.name for p in other.parent.iterdir()] == ["weights.bin"]


@pytest.mark.parametrize("choice", ["auto", "share", "copy", "inline"])
def test_the_result_must_not_replace_the_weights_or_the_model(choice, tmp_path):
    path, _ = save_external(tmp_path)
    before = files_in(tmp_path)
    for out in (tmp_path / "weights.bin", path):
        with pytest.raises(OutputError, match=f"{out.name}.*give another name"):
            instrument_file(path, out, external_data=choice)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("choice", ["auto", "copy"])
def test_the_result_must_not_take_the_name_of_the_weights(choice, tmp_path):
    path, _ = save_external(tmp_path)
    other = tmp_path / "to" / "weights.bin"
    with pytest.raises(OutputError, match=r"weights\.bin"):
        instrument_file(path, other, external_data=choice)
    assert not other.exists()


def test_copies_go_again_if_the_result_cannot_be_written(tmp_path):
    path, _ = save_external(tmp_path / "from", fields=False)
    out = tmp_path / "to" / "out.onnx"
    out.mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be written"):
        instrument_file(path, out)
    assert [p.name for p in out.parent.iterdir()] == ["out.onnx"]


def test_copies_do_not_leave_the_results_folder(tmp_path):
    """A folder of the result that is a link leads to where nothing was asked to be written."""
    path, _ = save_external(tmp_path / "from", "sub/weights.bin")
    (tmp_path / "to").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "to" / "sub").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(OutputError, match="leads out of the result's folder"):
        instrument_file(path, tmp_path / "to" / "out.onnx")
    assert not list((tmp_path / "elsewhere").iterdir())


# --- together with other things --------------------------------------------------------------------------------------


def test_python_gets_the_weights_loaded(tmp_path, batch):
    path, model = save_external(tmp_path)
    before = path.read_bytes()
    made = instrument(path)
    assert not any(tensor.external_data for tensor in made.graph.initializer)
    np.testing.assert_array_equal(weight(made, "w1"), weight(model, "w1"))
    same(made, model, batch)
    assert path.read_bytes() == before


def test_a_proto_or_bytes_with_external_data_and_no_path(tmp_path):
    path, _ = save_external(tmp_path / "from")
    proto = onnx.load(path, load_external_data=False)
    assert inspect(proto).score == "logits"
    for given in (proto, path.read_bytes()):
        for call in (lambda g: instrument_file(g, tmp_path / "to" / "out.onnx"), check, Explainer):
            with pytest.raises(ModelError, match="give the path of its file"):
                call(given)


@pytest.mark.parametrize("choice", ["auto", "share", "copy", "inline"])
def test_external_data_of_an_old_model_comes_inside(choice, tmp_path, batch):
    """Raising an opset takes the whole model into memory, so the result needs no file beside it."""
    model = cnn("gap", opset=9, ir=4)
    path, _ = save_external(tmp_path, model=model)
    out = tmp_path / "to" / "out.onnx"
    instrument_file(path, out, external_data=choice)
    assert [p.name for p in out.parent.iterdir()] == ["out.onnx"]
    np.testing.assert_array_equal(run(str(out), batch)["logits"], run(model, batch)["logits"])


def test_an_old_ir_version_leaves_the_weights_where_they_are(tmp_path, batch):
    model = cnn("gap", opset=11, ir=3)
    for tensor in model.graph.initializer:
        model.graph.input.add(name=tensor.name).type.tensor_type.elem_type = tensor.data_type
    path, _ = save_external(tmp_path, model=model)
    instrument_file(path, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").stat().st_size < 10_000
    assert len(list(tensors_of(onnx.load(tmp_path / "out.onnx", load_external_data=False)))) > 0
    np.testing.assert_array_equal(run(str(tmp_path / "out.onnx"), batch)["logits"], run(str(path), batch)["logits"])


@pytest.mark.parametrize("choice", ["copy", "inline"])
def test_hints_and_external_data_together(choice, tmp_path, batch):
    path, model = save_external(tmp_path / "from")
    proto = onnx.load(path, load_external_data=False)
    proto.metadata_props.add(key="onnx_xcam", value=json.dumps({"labels": list("abcde")}))
    path.write_bytes(proto.SerializeToString())
    out = tmp_path / "to" / "out.onnx"
    instrument_file(path, out, external_data=choice)
    np.testing.assert_array_equal(run(str(out), batch)["logits"], run(model, batch)["logits"])
    saved = onnx.load(out, load_external_data=False)
    assert [key for key, _ in props(saved)] == ["onnx_xcam"]


def test_a_stale_entry_of_a_tensor_inside_means_nothing(tmp_path, batch):
    """Some tools load the weights and leave the entry; data_location says where they really are."""
    model = cnn("dense", weights={"d1": (300, 144), "d2": (5, 300), "e1": (300,)})
    for tensor in model.graph.initializer:
        tensor.external_data.add(key="location", value="gone.bin")
    assert max(tensor.ByteSize() for tensor in model.graph.initializer) > wire.PAYLOAD_LIMIT
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    for given in (path, model):
        made = instrument(given)
        np.testing.assert_array_equal(weight(made, "d1"), weight(model, "d1"))
        instrument_file(given, tmp_path / "out.onnx")
    assert Source(path).references() == Source(model).references() == []
