"""This module writes a page: the instrumented model, its settings, the page's files and ONNX Runtime for browsers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnx_xcam import contract
from onnx_xcam.cams.methods import AUTO_METHOD, DEFAULT_METHOD, emitted_method, find_method
from onnx_xcam.common.files import is_folder, is_there
from onnx_xcam.common.locks import NAME as LOCK
from onnx_xcam.common.locks import held
from onnx_xcam.demo.browser_runtime import FILES, LICENCE, BrowserRuntime, find_runtime
from onnx_xcam.demo.settings import MODEL_FILE, PAGE_MARK, page_name, page_settings
from onnx_xcam.errors import ModelError, OutputError, XcamError
from onnx_xcam.explainer.load import load_model
from onnx_xcam.explainer.model import with_probabilities
from onnx_xcam.explainer.options import ModelOptions, PreprocessLike
from onnx_xcam.explainer.other_pictures import model_infos, read_pictures
from onnx_xcam.explainer.photo_pipeline import model_inputs
from onnx_xcam.feeds import InputValue, free_picture
from onnx_xcam.metadata import Metadata
from onnx_xcam.surgery import instrument_file
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.targets.classification.known_classifiers import ProbabilityChoice, check_choice
from onnx_xcam.text import json_text, load_json
from onnx_xcam.trials.comparison import compare_raised

WEB = Path(__file__).parent / "web"
PAGE_FILES = (
    "index.html",
    "style.css",
    "boxes.css",
    "app.js",
    "engine.js",
    "preprocess.js",
    "resample.js",
    "heatmap.js",
    "boxes.js",
    "photo.js",
    "search.js",
)
"""The files of the folder `web` that are the same for every page."""
SETTINGS_FILE, RUNTIME_FOLDER = "model.json", "runtime"

_LARGE = 1 << 30
"""Not every browser can load a model of more bytes."""


@dataclass(frozen=True)
class Page:
    """A Page describes a page that was written.

    Attributes:
        folder: the folder that holds all files of the page.
        notes: sentences on what was assumed: layer, score, preprocessing, labels.
        warnings: those sentences that deserve a look.
    """

    folder: Path
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def write_page(
    model: str | Path,
    folder: str | Path,
    *,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    method: str = AUTO_METHOD,
    preprocess: PreprocessLike | None = None,
    labels: str | Path | Sequence[str] | None = None,
    inputs: Mapping[str, InputValue] | None = None,
    runtime: Path | None = None,
    allow_folders: Folders = (),
    probabilities: ProbabilityChoice = "auto",
    task: str = "auto",
    conf: float | None = None,
    iou: float | None = None,
) -> Page:
    """Write a web page that explains photos with a model.

    Args:
        model: path of a plain model, or of one that was instrumented with class_input="required".
        folder: a new or empty folder, or one that holds such a page, which is replaced.
        layers, score, method, preprocess, labels, inputs, allow_folders, probabilities: as `onnx_xcam.Explainer` takes
            them.
        task, conf, iou: as `onnx_xcam.instrument` takes them.
        runtime: where ONNX Runtime for browsers is; see `find_runtime`.

    Raises:
        XcamError: there is no such method, no instrumented model can compute it, or the page cannot draw its map; or
            what `onnx_xcam.instrument_file` and `onnx_xcam.Explainer` raise.
        OutputError: the folder holds something else, or cannot be written.
        DependencyError: ONNX Runtime for browsers is missing.
    """
    model, folder = Path(model), Path(folder)
    check_choice(probabilities)
    if method != AUTO_METHOD and emitted_method(method).is_guided:
        raise XcamError(
            f"The page draws the map of a layer, not a fine one of the input; choose another method, such as "
            f"'{DEFAULT_METHOD}'."
        )
    _refuse_foreign(folder)
    browser = find_runtime(runtime)
    with _staging(folder) as made:
        inputs, _ = read_pictures(Source(model, allow_folders=allow_folders).skeleton(), model, inputs, preprocess)
        model_notes = _write_model(
            Source(model, allow_folders=allow_folders),
            made / MODEL_FILE,
            layers=layers,
            score=score,
            method=method,
            inputs=inputs,
            allow_folders=allow_folders,
            task=task,
            conf=conf,
            iou=iou,
        )
        content = (made / MODEL_FILE).read_bytes()
        loaded = load_model(content, ModelOptions(providers="cpu", inputs=inputs), method=method)
        # Preprocessing and labels may be stated by files beside the original.
        loaded = replace(loaded, path=model, name=f"'{model}'")
        known = model_inputs(loaded, preprocess, labels)
        loaded, known, of_probabilities = with_probabilities(loaded, known, probabilities)
        settings = page_settings(loaded, known, page_name(model), len(content))
        (made / SETTINGS_FILE).write_text(json_text(settings), encoding="utf-8")
        for name in PAGE_FILES:
            shutil.copyfile(WEB / name, made / name)
        _copy_runtime(browser, made / RUNTIME_FOLDER)
    warnings = [*known.warnings, *([browser.warning] if browser.warning else [])]
    if len(content) > _LARGE:
        warnings.append(f"Size: the model has {len(content) >> 20} MiB, which not every browser can load.")
    notes = [*model_notes, *(note for note in known.notes if note not in known.warnings)]
    notes += [*of_probabilities, *loaded.others.notes()]
    return Page(folder, tuple(notes), tuple(warnings))


def _write_model(
    source: Source,
    out: Path,
    *,
    layers: str | Sequence[str],
    score: str,
    method: str,
    inputs: Mapping[str, InputValue] | None,
    allow_folders: Folders,
    **of_task: Any,
) -> list[str]:
    """Write the instrumented model that the page needs, in one file, and return sentences on what was done."""
    path = source.path
    assert path is not None
    proto = source.skeleton()
    if contract.is_instrumented(output.name for output in proto.graph.output):
        _require_usable(proto, source, asked=(layers, score, method) != ("auto", "auto", AUTO_METHOD))
        shutil.copyfile(path, out)
        return ["Model: instrumented already, used as it is."]
    compared = compare_raised(source, inputs)

    def write(*, contrast: bool) -> Metadata:
        return instrument_file(
            path,
            out,
            layers=layers,
            score=score,
            method=method,
            emit=("map", "status"),
            class_input="required",
            picture=free_picture(model_infos(proto), inputs or {}),
            external_data="inline",
            allow_folders=allow_folders,
            contrast=contrast,
            **of_task,
        )

    metadata = write(contrast=False)
    if metadata.candidates is not None:  # what the model is for is known now
        metadata = write(contrast=True)
    return [*metadata.notes, *([compared] if compared else [])]


def _require_usable(proto: Any, source: Source, *, asked: bool) -> None:
    """Refuse an instrumented model that a page cannot use.

    Args:
        proto: the model without its weights.
        source: the model.
        asked: whether the user asked for a certain layer, score or method.

    Raises:
        ModelError: the model emits signed or guided maps, has no plain class input, keeps weights in other files, or
            the user asked for a layer, score or method.
    """
    original = "give the original model instead"
    own = Metadata.from_props({entry.key: entry.value for entry in proto.metadata_props}, source.name)
    if not own.relu or find_method(own.method).is_guided:
        raise ModelError(
            f"{source.name} is instrumented already, for signed or guided maps, which the page does not draw; "
            f"{original}."
        )
    if asked:
        raise ModelError(f"{source.name} is instrumented already, for its own layer and score; {original}.")
    with_default = {tensor.name for tensor in proto.graph.initializer}
    plain = {value.name for value in proto.graph.input} - with_default
    if contract.CLASS_INPUT not in plain:
        raise ModelError(
            f"{source.name} is instrumented already, but its classes cannot be chosen in a browser, which takes no "
            f"other value for an input with a default; {original}, or one instrumented with --class-input required."
        )
    if source.references():
        raise ModelError(f"{source.name} is instrumented already and keeps weights in other files; {original}.")


def _copy_runtime(browser: BrowserRuntime, folder: Path) -> None:
    """Copy the files of ONNX Runtime and its licence to a new folder."""
    folder.mkdir()
    for theirs, ours in FILES.items():
        shutil.copyfile(browser.folder / theirs, folder / ours)
    shutil.copyfile(WEB / LICENCE, folder / LICENCE)


def _refuse_foreign(folder: Path) -> None:
    """Raise an OutputError unless the folder is new or empty, or holds a page that was written here."""
    if not is_there(folder):
        return
    if not is_folder(folder):
        raise OutputError(f"'{folder}' is a file; give the name of a folder for the page.")
    if next(folder.iterdir(), None) is None:
        return
    try:
        settings = load_json((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = None
    if not isinstance(settings, dict) or settings.get("page") != PAGE_MARK:
        raise OutputError(f"'{folder}' holds other files; give a new or empty folder for the page.")


def _move_into(made: Path, folder: Path) -> None:
    """Move files and folders one by one, so that files that a user has put beside an earlier page stay."""
    folder.mkdir(exist_ok=True)
    for entry in made.iterdir():
        if entry.is_dir():
            _move_into(entry, folder / entry.name)
        else:
            entry.replace(folder / entry.name)


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Give the block a new folder, whose files move to `folder` when the block ends without an error.

    Raises:
        OutputError: the folder cannot be written, or another run is writing to it.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.parent / f"{LOCK}.{folder.name}"
        with (
            held(lock, f"the page '{folder}'"),
            tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name,
        ):
            made = Path(name) / "page"
            made.mkdir()
            yield made
            _move_into(made, folder)
    except OSError as error:
        raise OutputError(f"The page cannot be written to '{folder}': {error.strerror or error}.") from error
