"""Picture files to arrays and back. In memory a picture is always HxWx3, uint8, RGB, upright."""

from __future__ import annotations

import importlib
import io
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.common.files import is_file, is_folder, is_there, open_file, resolved
from onnx_xcam.errors import EncodingError, ImageError, OutputError
from onnx_xcam.images.backend import MAX_PIXELS, is_no_memory, memory_for, opencv, pillow
from onnx_xcam.images.headers import Format, format_of, stated_size
from onnx_xcam.images.pages import holds_several
from onnx_xcam.images.pixels import ImageRGB, to_8_bit, to_rgb, upright
from onnx_xcam.images.remarks import READY, FileValues
from onnx_xcam.images.tiff import RGB, WHITE_IS_ZERO, TiffPage, first_page

SUFFIXES = frozenset(
    f".{name}"
    for names in ("avif bmp dib gif hdr jp2", "jpe jpeg jpg", "pbm pfm pgm pnm ppm", "pic png ras tif tiff webp")
    for name in names.split()
)
"""The suffixes by which `find_images` knows pictures in a folder; a file named itself may have any."""

# By their first bytes: the formats whose header Pillow reads. Its own classes and not `PIL.Image.open`, whose limit on
# pixels is below ours, and can only be lifted for the whole process.
_HEADERS = (
    (0, b"\xff\xd8", "Jpeg", "JpegImageFile"),
    (0, b"\x89PNG", "Png", "PngImageFile"),
    (8, b"WEBP", "WebP", "WebPImageFile"),
    (0, b"II", "Tiff", "TiffImageFile"),
    (0, b"MM", "Tiff", "TiffImageFile"),
    (4, b"ftyp", "Avif", "AvifImageFile"),
    (0, b"GIF8", "Gif", "GifImageFile"),
    (0, b"BM", "Bmp", "BmpImageFile"),
    (0, b"P", "Ppm", "PpmImageFile"),
    (0, b"\0\0\0\x0cjP", "Jpeg2K", "Jpeg2KImageFile"),
)
_REFUSALS = (
    SyntaxError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    AttributeError,
    AssertionError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""What Pillow raises at headers that are damaged, or of a kind that it does not know; OpenCV then judges the file."""

_BOMB_PIXELS, _BOMB_RATIO = 2**25, 1000
"""Above so many pixels there must be a byte of the file for every so many of them: a photo has one for every ten."""
MAX_BYTES = 4 * MAX_PIXELS + (1 << 20)
"""The largest file that is read: the largest picture in RGBA of 8 bits, not compressed, and a header."""
_START = 32
_ORIENTATION_TAG = 0x0112
_WARNING_FILTERS = threading.Lock()  # they are the process's


def read_image(path: str | Path) -> ImageRGB:
    """The picture in a file, as [H,W,3] uint8 RGB, turned upright as its EXIF data says.

    Any format of the installed OpenCV. Transparent parts are laid over white, grey becomes three equal channels,
    the first picture of an animation is taken. Integers of more than 8 bits are scaled by their type's range
    (negative values become 0); for floats 0..1 is black to white, and where the largest value is above 1 the picture
    is divided by it (negative and non-finite values become 0).

    Raises:
        ImageError: no such file, something else than a file, empty, truncated, not a picture that OpenCV can read,
            more than `MAX_PIXELS` pixels or `MAX_BYTES` bytes, or the memory ran out.
    """
    return read_picture(path).image_rgb


@dataclass(frozen=True)
class ReadPicture:
    """A picture and what is to be known of how it was read.

    Attributes:
        image_rgb: as `read_image` gives it.
        values: what the file holds; None for an ordinary picture of 8 bits.
        remarks: what was assumed or lost, as parts of sentences about the file.
    """

    image_rgb: ImageRGB
    values: FileValues | None
    remarks: tuple[str, ...]


def remarks_for(read: ReadPicture, dtype: np.dtype[Any]) -> tuple[str, ...]:
    """The remarks on a picture that a model's input of this type is fed."""
    lost = None if read.values is None else read.values.remark_for_integers(dtype)
    if lost is None or read.values is None:
        return read.remarks
    return (*(one for one in read.remarks if one != read.values.remark()), lost)


def read_picture(path: str | Path) -> ReadPicture:
    """`read_image`, with what is to be known of the result.

    Raises:
        ImageError: as `read_image`.
    """
    with memory_for(path):
        decoded = _decoded(Path(path))
        values = None if decoded.pixels.dtype == np.uint8 else FileValues.of(decoded.pixels)
        pixels = to_8_bit(decoded.upright_values())
        if pixels.ndim == 3 and pixels.shape[2] >= 3:
            # By OpenCV: a tenth of the time that NumPy takes to pick the channels.
            cv2 = opencv()
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
        image_rgb = np.ascontiguousarray(upright(to_rgb(pixels), decoded.orientation))
        remark = values.remark() if values else None
        return ReadPicture(image_rgb, values, (*decoded.remarks, *([remark] if remark else [])))


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """The mask in a picture file, as [H,W] bool, upright: True where a pixel is neither black nor wholly transparent.

    Raises:
        ImageError: as `read_image`, or the file is a JPEG, whose compression leaves grey specks on black.
    """
    path = Path(path)
    if path.suffix.lower() in (".jpe", ".jpeg", ".jpg"):
        raise ImageError(f"{path}: a mask cannot be a JPEG, which does not keep black black; save it as PNG")
    decoded = _decoded(path)
    marked: NDArray[np.bool_] = decoded.upright_values() != 0
    if marked.ndim == 3:
        colours = marked.shape[2] - (marked.shape[2] in (2, 4))
        shown = np.logical_or.reduce(marked[..., :colours], axis=2)
        marked = shown if colours == marked.shape[2] else np.logical_and(shown, marked[..., -1])
    return np.ascontiguousarray(upright(marked, decoded.orientation))


@dataclass(frozen=True)
class _Decoded:
    """A file as OpenCV gives it.

    Attributes:
        pixels: [H,W] or [H,W,1..4].
        orientation: yet to be undone.
        white_is_zero: the values of the file run from white to black, and OpenCV has left them so.
        remarks: see `ReadPicture`.
    """

    pixels: NDArray[Any]
    orientation: int
    white_is_zero: bool
    remarks: tuple[str, ...]

    def upright_values(self) -> NDArray[Any]:
        """The pixels, black at 0."""
        if not self.white_is_zero:
            return self.pixels
        kind = self.pixels.dtype.kind
        white = max(1.0, float(np.nanmax(self.pixels))) if kind == "f" else np.iinfo(self.pixels.dtype).max
        return (white - self.pixels).astype(self.pixels.dtype)


def _decoded(path: Path) -> _Decoded:
    with memory_for(path):
        data, kind = _read_bytes(path)
        _check_size(data, kind, path)
        page = first_page(data)
        remarks = [] if page is None else _judged_bands(page, path)
        if holds_several(data, page):
            remarks.append("it holds several pictures, of which the first is taken")
        orientation = _orientation(data, path)
        pixels = _decoded_pixels(data, path)
        # OpenCV inverts 8 bits (and fewer) itself, not more.
        inverted = page is not None and page.photometric == WHITE_IS_ZERO and pixels.dtype.itemsize > 1
        return _Decoded(pixels, orientation, inverted, tuple(remarks))


def _judged_bands(page: TiffPage, path: Path) -> list[str]:
    """What is to be known of the bands of a TIFF file.

    Raises:
        ImageError: it has more than colours and alpha, of which OpenCV would drop some in silence.
    """
    others = page.bands_beside
    if others == 1 and page.photometric == RGB and page.samples == 4:
        return ["its fourth band is not said to be alpha, but is taken for it and laid over white"]
    if others:
        raise ImageError(
            f"{path}: has {page.samples} bands, more than a photo's colours; save those that the model wants as an RGB "
            f"or grey picture, or {READY}"
        )
    return []


def _decoded_pixels(data: bytes, path: Path) -> NDArray[Any]:
    cv2 = opencv()
    try:
        # UNCHANGED keeps alpha and depth, and implies IGNORE_ORIENTATION.
        pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if is_no_memory(error):
            raise
        raise ImageError(f"{path}: OpenCV cannot read this picture: {_first_line(error)}") from error
    if pixels is None:
        raise _no_picture(path)
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise _too_large(path, pixels.shape[1], pixels.shape[0])
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4):
        raise ImageError(f"{path}: has {pixels.shape[2]} channels; save it as an RGB or grey picture")
    return pixels


def as_image(array: Any) -> ImageRGB:
    """A picture that the caller holds as an array, checked: [H,W,3] uint8 RGB, contiguous.

    Also taken: [H,W] and [H,W,1] (grey) and [H,W,4] (RGBA, laid over white). The array is never changed; where
    nothing needs converting the result shares its memory.

    Raises:
        ImageError: another type, dtype or shape, no pixels, or more than `MAX_PIXELS`.
    """
    if not isinstance(array, np.ndarray):
        raise ImageError(
            f"a picture must be a path or a NumPy array [H,W,3] of uint8 in RGB order, not {type(array).__name__}"
            " (for a PIL image: numpy.asarray(image.convert('RGB')))"
        )
    if array.dtype != np.uint8:
        hint = "; for values 0..1: (x * 255).round().astype('uint8')" if array.dtype.kind == "f" else ""
        raise ImageError(f"a picture array must hold uint8 (0..255), not {array.dtype}{hint}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = "; move the channels last: x.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3) else ""
        raise ImageError(f"a picture array must be [H,W,3] in RGB order, not {list(array.shape)}{hint}")
    if array.size == 0:
        raise ImageError(f"a picture array without pixels: {list(array.shape)}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise _too_large("a picture array", array.shape[1], array.shape[0])
    return np.ascontiguousarray(to_rgb(array))


def find_images(
    paths: Iterable[str | Path], *, recursive: bool = False, leave_out: str | Path | None = None
) -> list[Path]:
    """The picture files that these paths name: a file as it is, a folder as its pictures, sorted by name.

    Pictures in folders are known by `SUFFIXES`; hidden files and folders are left out.

    Args:
        paths: files and folders.
        recursive: also search the folders in the folders (not through links), those of each folder after its pictures,
        leave_out: but not this one.

    Raises:
        ImageError: a path does not exist, a folder cannot be listed or has no picture.
    """
    skipped = None if leave_out is None else resolved(Path(leave_out))
    found: list[Path] = []
    for path in map(Path, paths):
        if not is_folder(path):
            if not is_there(path):
                raise ImageError(f"{path}: no such file or folder")
            found.append(path)
            continue
        pictures = _pictures_in(path, recursive, skipped)
        if not pictures:
            where = "folder or those in it" if recursive else "folder (subfolders are not searched)"
            raise ImageError(f"{path}: no picture in this {where}")
        found += pictures
    return found


def _pictures_in(folder: Path, recursive: bool, skipped: Path | None) -> list[Path]:
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ImageError(f"{folder}: the folder cannot be listed: {error.strerror}") from error
    pictures = [path for path in entries if path.suffix.lower() in SUFFIXES and is_file(path)]
    if recursive:
        for path in entries:
            if is_folder(path) and not path.is_symlink() and resolved(path) != skipped:
                pictures += _pictures_in(path, recursive, skipped)
    return pictures


def write_image(path: str | Path, image_rgb: ImageRGB) -> None:
    """Write [H,W,3] uint8 RGB to a file, as PNG, JPEG (quality 95) or what else the suffix says.

    Raises:
        OutputError: an unknown suffix, or the file cannot be written.
    """
    path = Path(path)
    try:
        data = encode_image(image_rgb, path.suffix)
    except OutputError as error:
        raise OutputError(f"{path}: {error}") from error
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def encode_image(image_rgb: ImageRGB, suffix: str, quality: int = 95) -> bytes:
    """[H,W,3] uint8 RGB as the bytes of a picture file: PNG, JPEG (of this quality) or what else the suffix says.

    Raises:
        OutputError: OpenCV does not know the suffix.
        EncodingError: it cannot encode this picture so.
    """
    cv2 = opencv()
    suffix = suffix.lower()
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in (".jpg", ".jpeg") else _png_options(cv2, suffix)
    height, width = image_rgb.shape[:2]
    if not cv2.haveImageWriter(f"x{suffix}"):
        raise OutputError("OpenCV cannot write this kind of picture; use .png or .jpg")
    try:
        with memory_for("the picture"):
            done, data = cv2.imencode(suffix, cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), options)
            if done:
                return bytes(data)
        why = f"{width} x {height} pixels may be more than this format can have"
    except cv2.error as error:
        why = _first_line(error)
    raise EncodingError(f"a picture of {width} x {height} pixels cannot be written as {suffix} ({why})")


def _png_options(cv2: Any, suffix: str) -> list[int]:
    """PNG's filter "up", where OpenCV offers the choice (4.12 and later).

    On photos with an overlay two thirds of the time of OpenCV's own choice, and a tenth smaller.
    """
    if suffix != ".png" or not hasattr(cv2, "IMWRITE_PNG_FILTER"):
        return []
    return [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]


def _read_bytes(path: Path) -> tuple[bytes, Format]:
    """The whole file, and its format. Read by Python and not by OpenCV, which on Windows fails at non-ASCII paths."""
    try:
        if is_folder(path):
            raise ImageError(f"{path}: is a folder, not a picture")
        with open_file(path) as file:
            start, size = file.read(_START), os.fstat(file.fileno()).st_size
            kind = format_of(start)
            file.seek(0)
            data = b"" if kind is None or size > MAX_BYTES else file.read(size)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise ImageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not start:
        raise ImageError(f"{path}: the file is empty (0 bytes)")
    if kind is None:
        raise _no_picture(path)
    if size > MAX_BYTES:
        raise ImageError(f"{path}: the file has more than {MAX_BYTES >> 20} MiB; scale the picture down first")
    return data, kind


def _check_size(data: bytes, kind: Format, path: Path) -> None:
    """Make sure, before anything is decoded, that the picture has a size that is taken.

    Raises:
        ImageError: no size is stated, or more than `MAX_PIXELS` pixels, or far more than the file can hold.
    """
    size = stated_size(data, kind)
    if size is None:
        raise _no_picture(path)
    width, height = size
    if width * height > MAX_PIXELS:
        raise _too_large(path, width, height)
    if width * height > max(_BOMB_PIXELS, _BOMB_RATIO * len(data)):
        raise ImageError(
            f"{path}: states {width} x {height} pixels in only {len(data)} bytes; the file is damaged, or made to "
            "exhaust the memory"
        )


def _orientation(data: bytes, path: Path) -> int:
    """The EXIF orientation (1..8) that is still to be undone after decoding; 1 for formats that Pillow does not know.

    Raises:
        ImageError: a JPEG without its end.
    """
    # Quietly: damage in the EXIF data costs the orientation, and whether the picture is whole OpenCV judges.
    with _WARNING_FILTERS, warnings.catch_warnings(action="ignore"):
        stream = io.BytesIO(data)
        header = _open_header(stream, path)
        if header is None:
            return _png_orientation(data)
        # Pillow stops where the scans begin. Within them 0xFF is escaped, so that the end marker can only be the end.
        if header.format == "JPEG" and data.find(b"\xff\xd9", stream.tell()) < 0:  # OpenCV 4 would read it, part grey
            raise ImageError(f"{path}: the picture file is truncated; copy or download it again")
        if header.format == "TIFF":  # OpenCV turns a TIFF itself, whatever it is asked
            return 1
        early = header.info.keys() & {"exif", "Raw profile type exif"}
        if header.format == "PNG" and not early and b"eXIf" not in data:
            return 1  # else Pillow would decode the whole picture in search of a late EXIF chunk
        return _told(header.getexif)


def _told(exif: Callable[[], Any]) -> int:
    """The orientation that EXIF data tell, 1 if they are damaged."""
    try:
        orientation = exif().get(_ORIENTATION_TAG, 1)
    except _REFUSALS:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _png_orientation(data: bytes) -> int:
    """The orientation of a PNG that Pillow refuses for what else is in it: long texts, for instance."""
    at, exif = 8, pillow().Exif()
    while data.startswith(b"\x89PNG") and at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            exif.load(data[at + 8 : at + 8 + length])
            return _told(lambda: exif)
        at += 12 + length
    return 1


def _open_header(stream: io.BytesIO, path: Path) -> Any:
    """Pillow's image of this file, not decoded, or None where Pillow does not know it."""
    image = pillow()
    start = stream.getbuffer()[:16].tobytes()
    for at, magic, plugin, name in _HEADERS:
        if start.startswith(magic, at):
            try:
                return getattr(importlib.import_module(f"PIL.{plugin}ImagePlugin"), name)(stream)
            except image.DecompressionBombError as error:
                raise ImageError(f"{path}: Pillow refuses this picture as too large: {error}") from error
            except (*_REFUSALS, ImportError):  # ImportError: AVIF before Pillow 11.3
                return None
    return None


def _no_picture(path: Path) -> ImageError:
    return ImageError(f"{path}: not a picture that OpenCV can read, or a damaged or truncated one")


def _first_line(error: BaseException) -> str:
    """An OpenCV error's own words, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _too_large(where: object, width: int, height: int) -> ImageError:
    return ImageError(f"{where}: {width} x {height} pixels is more than the limit of {MAX_PIXELS}; scale it down first")
