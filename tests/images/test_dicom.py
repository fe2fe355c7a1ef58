"""DICOM files: values as the modality gives them, windows, and what is refused; written and checked with pydicom."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from helpers.producers import library
from onnx_xcam.errors import ImageError
from onnx_xcam.images.sources import open_photo

STORED = np.random.default_rng(0).integers(0, 4096, (10, 14), np.uint16)


@pytest.fixture(name="pydicom")
def _pydicom():
    return library("pydicom")


def written(pydicom, pixels=STORED, *, syntax="1.2.840.10008.1.2.1", **tags):
    """The bytes of a DICOM file; `tags` replace or add elements, and None takes one away."""
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    header.Rows, header.Columns = pixels.shape[-2:] if pixels.shape[-1] != 3 else pixels.shape[-3:-1]
    header.SamplesPerPixel = 3 if pixels.shape[-1] == 3 else 1
    header.PhotometricInterpretation = "RGB" if header.SamplesPerPixel == 3 else "MONOCHROME2"
    header.BitsAllocated = 8 * pixels.dtype.itemsize
    header.BitsStored, header.PixelRepresentation = header.BitsAllocated, int(pixels.dtype.kind == "i")
    header.HighBit = header.BitsStored - 1
    if header.SamplesPerPixel == 3:
        header.PlanarConfiguration = 0
    header.PixelData = pixels.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    header["PixelData"].VR = "OW" if header.BitsAllocated > 8 else "OB"
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, header, enforce_file_format=True)
    return stream.getvalue()


def test_values_as_they_are_stored(pydicom):
    photo = open_photo(written(pydicom, BitsStored=12, HighBit=11))
    assert (photo.white, photo.window, photo.has_alpha, photo.remarks) == (4095, None, False, ())
    assert photo.pixels.dtype == np.uint16
    np.testing.assert_array_equal(photo.pixels[..., 0], STORED)
    rgb = np.random.default_rng(1).integers(0, 256, (6, 5, 3), np.uint8)
    photo = open_photo(written(pydicom, rgb))
    assert photo.white == 255
    np.testing.assert_array_equal(photo.pixels, rgb)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
def test_a_file_without_a_preamble(pydicom, syntax):
    header = pydicom.dcmread(io.BytesIO(written(pydicom, BitsStored=12, HighBit=11, syntax=syntax)))
    implicit = syntax == "1.2.840.10008.1.2"
    bare = pydicom.Dataset(header)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, bare, implicit_vr=implicit, little_endian=True)
    assert stream.getvalue()[:1] == b"\x08" and stream.getvalue()[128:132] != b"DICM"
    np.testing.assert_array_equal(open_photo(stream.getvalue()).pixels[..., 0], STORED)


def test_values_are_rescaled_as_pydicom_does(pydicom):
    data = written(pydicom, BitsStored=12, HighBit=11, RescaleSlope=2, RescaleIntercept=-1024)
    photo, header = open_photo(data), pydicom.dcmread(io.BytesIO(data))
    assert photo.white is None
    assert photo.pixels.dtype == np.float32
    theirs = pydicom.pixels.apply_modality_lut(header.pixel_array, header)
    np.testing.assert_array_equal(photo.pixels[..., 0], theirs)


@pytest.mark.parametrize(
    ("tags", "window"),
    [
        ({"WindowCenter": 40, "WindowWidth": 400}, (-160, 239)),
        ({"WindowCenter": [40, 600], "WindowWidth": [400, 1600]}, (-160, 239)),
        ({"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"}, (-160, 240)),
        ({"WindowCenter": 40, "WindowWidth": 1}, None),
        ({"WindowCenter": 40}, None),
    ],
)
def test_the_window(pydicom, tags, window):
    photo = open_photo(written(pydicom, STORED.astype(np.int16), **tags))
    assert photo.window == window
    if window and "VOILUTFunction" not in tags:
        header = pydicom.dcmread(io.BytesIO(written(pydicom, STORED.astype(np.int16), **tags)))
        ramp = np.arange(-300, 400, dtype=np.int16)
        theirs = pydicom.pixels.apply_windowing(ramp, header)
        ours = np.clip((ramp - window[0]) / (window[1] - window[0]), 0, 1)
        np.testing.assert_allclose((theirs - theirs.min()) / np.ptp(theirs), ours, atol=1e-12)


def test_monochrome1_is_inverted_with_its_window(pydicom):
    given = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 1, "RescaleIntercept": -24}
    given |= {"WindowCenter": 1000.5, "WindowWidth": 201}
    plain = open_photo(written(pydicom, **given))
    photo = open_photo(written(pydicom, PhotometricInterpretation="MONOCHROME1", **given))
    np.testing.assert_array_equal(photo.pixels, 4095 - 48 - plain.pixels)
    assert plain.window == (900, 1100)
    assert photo.window == (4095 - 48 - 1100, 4095 - 48 - 900)
    unsigned = open_photo(written(pydicom, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(unsigned.pixels[..., 0], 4095 - STORED)


def test_of_several_frames_the_first(pydicom):
    frames = np.stack([STORED, STORED[::-1], STORED * 0])
    photo = open_photo(written(pydicom, frames, NumberOfFrames=3))
    assert photo.remarks == ("it holds 3 frames, of which the first is taken",)
    np.testing.assert_array_equal(photo.pixels[..., 0], STORED)


def test_settings_of_the_first_frame(pydicom):
    """Of a file in the enhanced form, where slope and window stand in the groups of each frame."""
    values, window, group = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 3, -7, "HU"
    window.WindowCenter, window.WindowWidth = 40, 400
    group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [values], [window]
    frames = np.stack([STORED, STORED])
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        photo = open_photo(written(pydicom, frames, NumberOfFrames=2, **{groups: [group]}))
        np.testing.assert_array_equal(photo.pixels[..., 0], STORED.astype(np.float32) * 3 - 7)
        assert photo.window == (-160, 239)


def test_every_file_of_pydicom_ends_in_a_photo_or_a_sentence(pydicom):
    """Those that are read hold the values that pydicom gives."""
    read = 0
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        try:
            photo = open_photo(path)
        except ImageError as error:
            assert "\n" not in str(error), path
            continue
        with warnings.catch_warnings(action="ignore"):
            header = pydicom.dcmread(path)
            theirs = pydicom.pixels.pixel_array(header, index=0)
        if header.PhotometricInterpretation == "PALETTE COLOR":
            theirs = pydicom.pixels.apply_color_lut(theirs, header)
        elif theirs.ndim == 2:
            theirs = pydicom.pixels.apply_modality_lut(theirs, header)[..., None]
        np.testing.assert_allclose(photo.pixels, theirs, rtol=1e-6, err_msg=str(path))
        read += 1
    assert read > 15


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000 pixels is more than the limit"),
        ({"Rows": 16000, "Columns": 16000}, "states 16000 x 16000 pixels in only"),
        ({"Rows": 100}, r"cannot be read \(The number of bytes of pixel data is less than expected"),
        ({"Rows": 0}, "an impossible size: 14 x 0"),
        ({"SamplesPerPixel": 200, "PlanarConfiguration": 0}, "has 200 samples of 'MONOCHROME2', which are not read"),
        ({"PhotometricInterpretation": "HSV"}, "has 1 samples of 'HSV'"),
        ({"PhotometricInterpretation": None}, "has no attribute 'PhotometricInterpretation'"),
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, r"cannot be read \(rescale slope 0, intercept 1"),
        ({"BitsAllocated": 24}, "impossible size"),
    ],
)
def test_files_that_lie(pydicom, tags, said):
    with pytest.raises(ImageError, match=rf"the image: .*{said}") as caught:
        open_photo(written(pydicom, **tags))
    assert "\n" not in str(caught.value)


def test_a_frame_larger_than_its_header_is_not_decoded(pydicom, monkeypatch):
    import cv2

    frame = cv2.imencode(".jpg", np.zeros((4000, 4000), np.uint8))[1].tobytes()
    data = written(
        pydicom,
        STORED.astype(np.uint8),
        syntax="1.2.840.10008.1.2.4.50",
        PixelData=pydicom.encaps.encapsulate([frame]),
    )
    monkeypatch.setattr("pydicom.pixels.pixel_array", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="states 14 x 10 pixels, but its frame 4000 x 4000"):
        open_photo(data)


def test_deflated_files_are_not_inflated(pydicom, monkeypatch):
    data = written(pydicom, syntax="1.2.840.10008.1.2.1.99")
    monkeypatch.setattr(pydicom, "dcmread", lambda *_, **__: pytest.fail("inflated"))
    with pytest.raises(ImageError, match="is deflated, which is not read; convert it"):
        open_photo(data)


@pytest.mark.parametrize("cut", range(132, 700, 37))
def test_damaged_files_end_well(pydicom, cut):
    data = written(pydicom, WindowCenter=40, WindowWidth=400)
    for damaged in (data[:cut], data[:cut] + bytes(9) + data[cut + 9 :], data[:cut] + b"\xff" * 9 + data[cut + 9 :]):
        try:
            open_photo(damaged)
        except ImageError as error:
            assert "\n" not in str(error)


def test_without_pydicom_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageError, match=r"read with pydicom 3 or later; pip install 'onnx-xcam\[dicom\]'"):
        open_photo(bytes(128) + b"DICM" + bytes(100))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("centre", [1e17, -1e300])
def test_a_window_too_narrow_for_its_place_is_not_followed(pydicom, centre, photometric):
    """Its ends are the same float; everything would be divided by their distance."""
    photo = open_photo(written(pydicom, WindowCenter=centre, WindowWidth=2, PhotometricInterpretation=photometric))
    assert photo.window is None
    assert photo.remarks == ("the window that it states is empty, and not followed",)
    assert photo.display().shape == (10, 14, 3)


def test_an_element_of_impossible_length_is_one_sentence(pydicom):
    """pydicom has errors of its own, which are no ValueError."""
    data = written(pydicom)
    rows = data.index(b"\x28\x00\x10\x00US")
    with pytest.raises(ImageError, match="this DICOM file cannot be read"):
        open_photo(data[: rows + 6] + b"\x03\x00" + data[rows + 8 : rows + 10] + b"\0" + data[rows + 10 :])
