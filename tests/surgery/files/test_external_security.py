"""External data of a model that is not to be trusted: what may be read, and what is said of the rest."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from helpers import ROOT
from helpers.external_models import PLACES, model_with, rewrite_entries, save_external, tensors_of
from helpers.models import run
from onnx_xcam import Explainer, check, inspect, instrument, instrument_file
from onnx_xcam.cli import app
from onnx_xcam.errors import ModelError, OutputError
from onnx_xcam.surgery import instrument_bytes
from onnx_xcam.surgery.files import wire
from onnx_xcam.surgery.files.external import folders
from onnx_xcam.surgery.files.source import Source


def to_file(path, **options):
    """`instrument_file` beside the model, or in a folder of its own."""
    for choice in ("auto", "share", "copy", "inline"):
        instrument_file(path, path.parent / f"{choice}.onnx", external_data=choice, **options)


def explainer(path, **options):
    return Explainer(path, preprocess="imagenet", **options)


WAYS_IN = [instrument, instrument_bytes, inspect, check, to_file, explainer]


def refused(path, said, **options):
    """All ways in refuse the model at once, in one sentence, and write nothing."""
    before = sorted(path.parent.rglob("*"))
    for way in WAYS_IN:
        with pytest.raises(ModelError, match=said) as caught:
            way(path, **options)
        assert "\n" not in str(caught.value)
    assert sorted(path.parent.rglob("*")) == before


def accepted(path, model, batch, **options):
    """All ways in take the model and give what they give for the same model without external data."""
    expected = run(instrument(model), batch)
    for name, value in run(instrument(path, **options), batch).items():
        np.testing.assert_array_equal(value, expected[name])
    assert inspect(path, **options).layers == inspect(model).layers
    assert check(path, **options).passed
    np.testing.assert_array_equal(explainer(path, **options).explain(batch).maps, expected["xcam_map"])


# --- outside of the model's folder -----------------------------------------------------------------------------------


def outside(kind, tmp_path, model=None):
    """A model in `home` whose weights lie in `away`, named in one of several ways; its path, and the model inside."""
    path, whole = save_external(tmp_path / "home", model=model)
    away = tmp_path / "away"
    away.mkdir()
    shutil.move(path.parent / "weights.bin", away / "weights.bin")
    location = {
        "absolute": str(away / "weights.bin"),
        "dots": "../away/weights.bin",
        "dots within": "sub/../../away/weights.bin",
        "link": "weights.bin",
        "link to a link": "weights.bin",
        "linked folder": "sub/weights.bin",
    }[kind]
    if kind == "dots within":
        (path.parent / "sub").mkdir()
    elif kind == "link":
        (path.parent / "weights.bin").symlink_to(away / "weights.bin")
    elif kind == "link to a link":
        (path.parent / "first").symlink_to("../away/weights.bin")
        (path.parent / "weights.bin").symlink_to("first")
    elif kind == "linked folder":
        (path.parent / "sub").symlink_to(away, target_is_directory=True)
    rewrite_entries(path, location=location)
    return path, whole


KINDS = ["absolute", "dots", "dots within", "link", "link to a link", "linked folder"]


@pytest.mark.parametrize("kind", KINDS)
def test_outside_of_the_folder_is_refused_everywhere(kind, tmp_path):
    path, _ = outside(kind, tmp_path)
    away = str(tmp_path / "away")
    refused(path, rf"lies outside the model's folder, in '{away}'; .*allow that folder: --allow-folder")
    others = [tmp_path / "home", tmp_path / "more"]
    (tmp_path / "more").mkdir()
    (tmp_path / "awa").mkdir()
    refused(path, "outside the model's folder", allow_folders=others)
    refused(path, "outside the model's folder", allow_folders=tmp_path / "awa")


@pytest.mark.parametrize("kind", KINDS)
def test_an_allowed_folder_works_everywhere(kind, tmp_path, batch):
    path, model = outside(kind, tmp_path)
    accepted(path, model, batch, allow_folders=tmp_path / "away")
    (tmp_path / "link").symlink_to(tmp_path / "away", target_is_directory=True)
    accepted(path, model, batch, allow_folders=[tmp_path / "home", str(tmp_path / "link")])


@pytest.mark.parametrize("kind", KINDS)
def test_results_of_a_model_with_an_allowed_folder(kind, tmp_path, batch):
    path, model = outside(kind, tmp_path)
    expected = run(instrument(model), batch)
    allowed = {"allow_folders": tmp_path / "away"}
    with pytest.raises(OutputError, match="cannot share"):
        instrument_file(path, path.parent / "out.onnx", external_data="share", **allowed)
    outs = [(tmp_path / name / "out.onnx", name) for name in ("auto", "copy", "inline")]
    for out, choice in [*outs, (tmp_path / "away" / "out.onnx", "share"), (tmp_path / "above.onnx", "share")]:
        instrument_file(path, out, external_data=choice, **allowed)
        for name, value in run(str(out), batch).items():
            np.testing.assert_array_equal(value, expected[name])
        assert Explainer(out, preprocess="imagenet").explain(batch).maps.any(), "the result needs no permission"
    assert (tmp_path / "copy" / "weights.bin").is_file() or (tmp_path / "copy" / "sub" / "weights.bin").is_file()
    assert not (tmp_path / "copy" / "weights.bin").is_symlink()


@pytest.mark.parametrize("place", PLACES)
def test_every_place_is_looked_at(place, tmp_path, batch):
    """With a permission, ONNX Runtime gets every location changed: one left as it was would be another file."""
    path, model = outside("absolute", tmp_path, model_with(place))
    refused(path, "outside the model's folder")
    accepted(path, model, batch, allow_folders=tmp_path / "away")


def test_an_instrumented_model_is_looked_at_too(tmp_path, batch):
    path, model = save_external(tmp_path / "home")
    instrument_file(path, tmp_path / "home" / "out.onnx")
    (tmp_path / "away").mkdir()
    shutil.move(tmp_path / "home" / "weights.bin", tmp_path / "away" / "weights.bin")
    (tmp_path / "home" / "weights.bin").symlink_to(tmp_path / "away" / "weights.bin")
    for way in (inspect, explainer):
        with pytest.raises(ModelError, match="outside the model's folder"):
            way(tmp_path / "home" / "out.onnx")
    found = explainer(tmp_path / "home" / "out.onnx", allow_folders=tmp_path / "away").explain(batch)
    np.testing.assert_array_equal(found.maps, run(instrument(model), batch)["xcam_map"])


def test_a_model_hubs_cache(tmp_path, batch):
    """snapshots/<revision>/model.onnx and its data are links into blobs/."""
    path, model = save_external(tmp_path / "made", "model.onnx_data")
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name, file in (("model.onnx", path), ("model.onnx_data", path.parent / "model.onnx_data")):
        shutil.move(file, blobs / f"sha-of-{name}")
        (snapshot / name).symlink_to(Path("../../blobs") / f"sha-of-{name}")
    linked = snapshot / "model.onnx"
    for way in (instrument, inspect, check, explainer):
        with pytest.raises(ModelError, match=f"in '{blobs}'"):
            way(linked)
    accepted(linked, model, batch, allow_folders=[blobs])
    for choice in ("auto", "copy", "inline"):
        out = tmp_path / choice / "out.onnx"
        instrument_file(linked, out, external_data=choice, allow_folders=[blobs])
        np.testing.assert_array_equal(run(str(out), batch)["xcam_map"], run(instrument(model), batch)["xcam_map"])
        assert not any(file.is_symlink() for file in out.parent.iterdir())
    with pytest.raises(OutputError, match="leads out of the result's folder"):
        instrument_file(linked, snapshot / "out.onnx", allow_folders=[blobs])
    assert not (snapshot / "out.onnx").exists()


def test_links_and_odd_spellings_that_stay_inside_need_no_permission(tmp_path, batch):
    path, model = save_external(tmp_path, "sub/weights.bin")
    (tmp_path / "link.bin").symlink_to("sub/weights.bin")
    for location in ("sub/weights.bin", "./sub//weights.bin", "link.bin"):
        rewrite_entries(path, location=location)
        accepted(path, model, batch)


def test_a_model_in_a_linked_folder_needs_no_permission(tmp_path, batch):
    model = save_external(tmp_path / "real")[1]
    (tmp_path / "linked").symlink_to(tmp_path / "real", target_is_directory=True)
    accepted(tmp_path / "linked" / "m.onnx", model, batch)


@pytest.mark.parametrize(
    "location", ["/absent/w.bin", "../absent.bin", "sub/../../absent.bin", "C:\\w.bin", "..\\w.bin"]
)
def test_whether_a_file_outside_exists_is_not_told(location, tmp_path):
    path, _ = save_external(tmp_path / "home")
    rewrite_entries(path, location=location)
    refused(path, "outside the model's folder")


def test_one_folder_is_one_folder(tmp_path):
    """A text is a sequence too: of letters, and the first one of a path is the root of everything."""
    assert folders("/a/b") == folders(Path("/a/b")) == folders([Path("/a/b")]) == (Path("/a/b"),)
    path, _ = outside("absolute", tmp_path)
    refused(path, "outside the model's folder", allow_folders=str(tmp_path / "home"))


def test_a_folder_to_be_allowed_must_be_one(tmp_path):
    path, _ = save_external(tmp_path)
    refused(path, "'.*none' .*cannot be found", allow_folders=tmp_path / "none")
    refused(path, r"'.*weights\.bin'.* is no folder", allow_folders=[tmp_path / "weights.bin"])
    refused(path, "allow_folders takes the path", allow_folders=[7])
    refused(path, "allow_folders takes the path", allow_folders=None)


def test_an_entry_that_looks_like_our_own_mark_is_judged_like_any_other(tmp_path):
    """Skeletons mark the tensors they left out by an entry; a file can have such entries too."""
    path, _ = outside("dots", tmp_path)
    model = onnx.ModelProto.FromString(path.read_bytes())
    mark = onnx.TensorProto()
    wire.strip(mark, TensorProto(name="x"))
    for tensor in tensors_of(model):
        tensor.external_data.extend(mark.external_data)
    path.write_bytes(model.SerializeToString())
    refused(path, "outside the model's folder")


def test_a_tensor_in_two_records_is_one_tensor(tmp_path, batch):
    """Protobuf merges a message that comes in parts: where the data lie in one, that they do in the other."""
    path, model = outside("absolute", tmp_path, model_with("constant"))
    proto = onnx.ModelProto.FromString(path.read_bytes())
    constants = [node for node in proto.graph.node if node.op_type == "Constant"]
    for node in constants:
        proto.graph.node.remove(node)
    parts = []
    for node in constants:
        whole, rest = node.attribute[0].t, onnx.NodeProto()
        rest.CopyFrom(node)
        del rest.attribute[0].t.external_data[:]
        moved = onnx.AttributeProto(t=onnx.TensorProto(external_data=whole.external_data))
        attribute = rest.attribute.pop().SerializeToString() + moved.SerializeToString()
        content = rest.SerializeToString() + bytes([5 << 3 | 2]) + _length(attribute) + attribute
        graph = bytes([1 << 3 | 2]) + _length(content) + content
        parts.append(bytes([7 << 3 | 2]) + _length(graph) + graph)
    path.write_bytes(b"".join(parts) + proto.SerializeToString())
    assert len(onnx.ModelProto.FromString(path.read_bytes()).graph.node[0].attribute[0].t.external_data) == 3
    refused(path, "outside the model's folder")
    accepted(path, model, batch, allow_folders=tmp_path / "away")


def _length(content):
    return wire._header(0, len(content))[1:]


# --- not files, and not where they should be -------------------------------------------------------------------------


def test_missing_external_data_is_said(tmp_path):
    path, _ = save_external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    refused(path, r"weights\.bin' of '.*m\.onnx' is missing; put it back")
    (tmp_path / "weights.bin").symlink_to("nowhere.bin")
    refused(path, "is missing")
    rewrite_entries(path, location="m.onnx/weights.bin")
    refused(path, "is missing")


def test_a_loop_of_links(tmp_path):
    path, _ = save_external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    (tmp_path / "weights.bin").symlink_to("other.bin")
    (tmp_path / "other.bin").symlink_to("weights.bin")
    refused(path, "cannot be read")


def test_a_folder_is_no_file(tmp_path):
    path, _ = save_external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    (tmp_path / "weights.bin").mkdir()
    refused(path, r"weights\.bin' .*cannot be read: it is a folder, not a file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_at_once(tmp_path):
    """Reading it would wait for ever."""
    path, _ = save_external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    os.mkfifo(tmp_path / "weights.bin")
    refused(path, "it is a device or a pipe, not a file")
    for way in WAYS_IN:
        with pytest.raises(ModelError, match="it is a device or a pipe, not a file"):
            way(tmp_path / "weights.bin")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_a_device_is_refused_even_if_its_folder_is_allowed(tmp_path):
    path, _ = save_external(tmp_path)
    rewrite_entries(path, location="/dev/zero")
    refused(path, "outside the model's folder, in '/dev'")
    refused(path, "it is a device or a pipe, not a file", allow_folders="/dev")
    for way in WAYS_IN:
        with pytest.raises(ModelError, match="it is a device or a pipe"):
            way(Path("/dev/zero"))


# --- entries that make no sense --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"offset": "-8"}, "the offset '-8' .* no number of bytes"),
        ({"offset": "eight"}, "the offset 'eight'"),
        ({"offset": "8.0"}, "the offset '8.0'"),
        ({"offset": " 8"}, "the offset ' 8'"),
        ({"offset": "0x8"}, "the offset '0x8'"),
        ({"offset": "٨"}, "the offset '٨'"),
        ({"offset": ""}, "the offset ''"),
        ({"offset": "9223372036854775808"}, "the offset '9223372036854775808'"),
        ({"offset": "1" * 5000}, "the offset '1111"),
        ({"offset": "9223372036854775807"}, "reach to byte 92233720368547758.* which has only"),
        ({"offset": "100000"}, r"reach to byte 100020 of 'weights\.bin', which has only"),
        ({"length": "-1"}, "the length '-1'"),
        ({"length": "all"}, "the length 'all'"),
        ({"length": "19"}, "take 20 bytes, but 19 are set aside"),
        ({"length": "1000000000000"}, "take 20 bytes, but 1000000000000"),
        ({"location": ""}, "but not in which"),
        ({"location": None}, "but not in which"),
        ({"location": "a\0b"}, "cannot be read"),
        ({"location": "a" * 5000}, "cannot be read"),
    ],
)
def test_entries_that_make_no_sense(fields, said, tmp_path):
    path, _ = save_external(tmp_path)
    rewrite_entries(path, **fields)
    refused(path, said)


@pytest.mark.parametrize("fields", [{"length": "0"}, {"length": None}, {"checksum": "abc"}])
def test_entries_that_onnx_runtime_takes(fields, tmp_path, batch):
    path, model = save_external(tmp_path)
    rewrite_entries(path, **fields)
    accepted(path, model, batch)


def test_no_entry_at_all(tmp_path):
    path, _ = save_external(tmp_path)
    rewrite_entries(path, offset=None, length=None, location=None)
    refused(path, "'w1' .*are said to lie in another file, but not in which")


def test_two_entries_of_a_kind(tmp_path):
    path, _ = save_external(tmp_path)
    model = onnx.ModelProto.FromString(path.read_bytes())
    model.graph.initializer[-1].external_data.add(key="location", value="other.bin")
    path.write_bytes(model.SerializeToString())
    refused(path, "two entries 'location'")


def test_a_name_that_is_not_text(tmp_path):
    path, _ = save_external(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"weights.bin", b"weights\xff\xfe.b"))
    refused(path, "not text")


@pytest.mark.parametrize(
    ("kind", "dims", "said"),
    [
        (TensorProto.STRING, [5], "a type that cannot be kept in another file"),
        (TensorProto.UNDEFINED, [5], "a type that cannot"),
        (999, [5], "a type that cannot"),
        (TensorProto.FLOAT, [-5], r"impossible shape \[-5\]"),
        (TensorProto.FLOAT, [1 << 40, 1 << 40], "reach to byte"),
    ],
)
def test_tensors_that_cannot_lie_in_a_file(kind, dims, said, tmp_path):
    path, _ = save_external(tmp_path)
    model = onnx.ModelProto.FromString(path.read_bytes())
    tensor = model.graph.initializer[-1]
    tensor.data_type = kind
    del tensor.dims[:]
    tensor.dims.extend(dims)
    path.write_bytes(model.SerializeToString())
    if kind == TensorProto.FLOAT:
        rewrite_entries(path, length=None)
    with pytest.raises(ModelError, match=said):
        Source(path).skeleton()


@pytest.mark.parametrize(
    ("kind", "count", "size"),
    [
        (TensorProto.FLOAT, 3, 12),
        (TensorProto.DOUBLE, 3, 24),
        (TensorProto.BFLOAT16, 3, 6),
        (TensorProto.BOOL, 3, 3),
        (TensorProto.INT4, 3, 2),
        (TensorProto.UINT4, 4, 2),
        (TensorProto.FLOAT8E5M2, 0, 0),
    ],
)
def test_the_size_of_a_tensor(kind, count, size, tmp_path):
    """A type's bytes, whatever it is: short ones share a byte."""
    path, _ = save_external(tmp_path)
    model = onnx.ModelProto.FromString(path.read_bytes())
    tensor = model.graph.initializer.add(name="odd", data_type=kind, dims=[count], data_location=1)
    tensor.external_data.add(key="location", value="odd.bin")
    path.write_bytes(model.SerializeToString())
    for there in range(size):
        (tmp_path / "odd.bin").write_bytes(bytes(there))
        with pytest.raises(ModelError, match=f"reach to byte {size} of 'odd.bin', which has only {there}"):
            Source(path).references()
    (tmp_path / "odd.bin").write_bytes(bytes(size))
    assert Source(path).references()[-1].part.length == size
    assert Source(path).load().graph.initializer[-1].raw_data == bytes(size)


def test_graphs_nested_beyond_all_measure(tmp_path):
    """Protobuf refuses them; so does the reading of a skeleton, before Python runs out of stack."""
    content = bytes(1 << 16)
    for _ in range(2000):
        for field in (6, 5, 1):  # graph in attribute in node in graph
            content = bytes([field << 3 | 2]) + _length(content) + content
    content = bytes([7 << 3 | 2]) + _length(content) + content
    (tmp_path / "m.onnx").write_bytes(content)
    refused(tmp_path / "m.onnx", "not an ONNX model or is damaged")


# --- command line ----------------------------------------------------------------------------------------------------


def test_the_command_line(tmp_path, capsys):
    path, _ = outside("link", tmp_path)
    allow = ["--allow-folder", str(tmp_path / "away")]
    out = tmp_path / "to" / "out.onnx"
    photo = ROOT / "sample_models"
    picture = next(photo.rglob("*.jpg"))
    commands = [
        ["inspect", str(path)],
        ["check", str(path)],
        ["check", str(path), str(picture), "--preprocess", "imagenet"],
        ["instrument", str(path), "-o", str(out), "--external-data", "copy"],
        ["explain", str(path), str(picture), "-o", str(tmp_path / "pictures"), "--preprocess", "imagenet"],
    ]
    for command in commands:
        assert _status(command) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: The external data 'weights.bin'")
        assert "--allow-folder" in said
        assert _status([*command, *allow]) == 0, capsys.readouterr().err
        capsys.readouterr()
    assert (out.parent / "weights.bin").is_file()
    share = ["instrument", str(path), "-o", str(path.parent / "out.onnx"), "--external-data", "share", *allow]
    assert _status(share) == 1
    assert "cannot share" in capsys.readouterr().err
    several = ["inspect", str(path), "--allow-folder", str(tmp_path / "to"), *allow]
    assert _status(several) == 0
    assert _status(["instrument", str(path), "-o", str(out), "--external-data", "link"]) == 2


def _status(arguments):
    with pytest.raises(SystemExit) as ended:
        app(arguments, prog_name="onnx-xcam")
    return ended.value.code
