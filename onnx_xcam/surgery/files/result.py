"""Writing the instrumented model: the original's pieces and the tail, and its external data shared, copied or inside.

Everything is looked at before anything is written, no file but the result itself is ever replaced, whatever is copied
passes through memory in small parts, and all files are whole before the first one is put in its place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import onnx

from onnx_xcam.common.files import CHUNK, Draft, open_file, remove_abandoned, same_bytes, same_content, writing_to
from onnx_xcam.contract import ExternalDataChoice
from onnx_xcam.errors import ModelError, OutputError
from onnx_xcam.surgery.files import wire
from onnx_xcam.surgery.files.external import ExternalData, Reference, is_plain, relocate
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.text import listed, quoted

LARGEST = (1 << 31) - 1
"""Bytes that a protobuf message, and so an ONNX file, can have."""
_OWNERS = 0o600
"""Permissions that the owner of a result has, whatever the weights in it had."""


@dataclass(frozen=True)
class _Placement:
    """What becomes of the external data.

    Attributes:
        copies: from where to where files are copied.
        change: what is put in place of tensors that lie in other files; None leaves all of them as they are.
        note: a sentence on it, or None where there are none.
    """

    copies: Mapping[Path, Path]
    change: wire.Change | None
    note: str | None


def write_result(source: Source, out: Path, tail: bytes, choice: ExternalDataChoice) -> str | None:
    """Write an instrumented model.

    Args:
        source: the original.
        out: the file to write.
        tail: what is appended to the original.
        choice: what becomes of the external data; see `onnx_xcam.instrument_file`.

    Returns:
        A sentence on what became of the external data, if there are any.

    Raises:
        OutputError: the result cannot be written, would replace the original, its weights or another file, or cannot
            have its weights as `choice` wants.
        ModelError: as `Source.references`.
    """
    with writing_to(out):
        there = out.exists()
    if source.path and there and out.samefile(source.path):
        raise OutputError(f"'{out}' is the original model itself; give another name for the result.")
    references = source.references()
    if any(there and out.samefile(reference.part.path) for reference in references):
        raise OutputError(f"'{out}' holds weights of the model; give another name for the result.")
    placement = _placed(source, references, out, choice)
    if choice == "inline":
        _require_small(source, placement, out, len(tail))
    for folder in {out.parent, *(target.parent for target in placement.copies.values())}:
        remove_abandoned(folder)
    inside = [reference.part.path for reference in references] if choice == "inline" else []
    with contextlib.ExitStack() as drafts, contextlib.ExitStack() as undo:
        copies = [drafts.enter_context(_copied(file, target)) for file, target in placement.copies.items()]
        with source.pieces(placement.change) as pieces:
            result = drafts.enter_context(_drafted(out, [*pieces, tail], inside))
        for copy in copies:
            if not _is_there(copy):
                _place(copy)
                undo.callback(copy.path.unlink, missing_ok=True)
        _place(result)
        undo.pop_all()
    return placement.note


def _copied(file: Path, target: Path) -> Draft:
    """A copy of a file of weights, with the same permissions."""
    try:
        status = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from error
    draft = _drafted(target, [wire.FilePart(file, 0, status.st_size)])
    draft.copy_mode(status)
    return draft


def _drafted(path: Path, pieces: Iterable[wire.Piece], inside: Iterable[Path] = ()) -> Draft:
    """A file that is written but not in its place.

    Args:
        path: where it will be.
        pieces: what it holds.
        inside: the files of weights among that: whoever must not read one of them must not read the result.
    """
    with writing_to(path):
        draft = Draft(path)
    with contextlib.ExitStack() as undo:
        undo.enter_context(draft)
        with writing_to(path):
            _write(draft.file, pieces)
            for file in inside:
                draft.allow(file.stat().st_mode | _OWNERS)
        undo.pop_all()
    return draft


def _place(draft: Draft) -> None:
    with writing_to(draft.path):
        draft.place()


def _is_there(copy: Draft) -> bool:
    """Whether another process has meanwhile put the same copy there.

    Raises:
        OutputError: it is another file.
    """
    if not copy.path.exists():
        return False
    copy.file.flush()
    copy.file.seek(0)
    with open_file(copy.path) as there:
        if not same_bytes(copy.file, there):
            raise _taken(copy.path)
    return True


def _taken(target: Path) -> OutputError:
    return OutputError(f"'{target}' exists already, with other content; remove it, or write to an empty folder.")


def _placed(source: Source, references: Sequence[Reference], out: Path, choice: ExternalDataChoice) -> _Placement:
    if not references:
        return _Placement({}, None, None)
    assert source.external is not None
    folder = _Beside(out)
    if choice == "auto":
        choice = "share" if all(folder.has(reference) for reference in references) else "copy"
    if choice == "inline":
        return _Placement({}, _inside(source.external), "Weights: put into the result.")
    if choice == "share":
        shared = {reference.part.path: folder.shared(reference) for reference in references}
        copies, note = {}, "shared with the original"
    else:
        copies = folder.copies(references)
        shared = {file: target.relative_to(out.parent).as_posix() for file, target in copies.items()}
        copies = {file: target for file, target in copies.items() if not target.exists()}
        note = "copied" if copies else "there already"
    moved = any(shared[reference.part.path] != reference.location for reference in references)
    change = _relocation(source.external, shared) if moved else None
    names = quoted(sorted(set(shared.values())))
    return _Placement(
        copies,
        change,
        f"Weights: {note}, in {listed(names, 3, 'other files')} beside the result; keep together.",
    )


def _relocation(external: ExternalData, locations: Mapping[Path, str]) -> wire.Change:
    def change(tensor: onnx.TensorProto) -> list[wire.Piece]:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        relocate(copy, locations[external.reference(tensor).part.path])
        return [copy.SerializeToString()]

    return change


def _inside(external: ExternalData) -> wire.Change:
    return lambda tensor: wire.inlined(tensor, external.reference(tensor).part)


def _require_small(source: Source, placement: _Placement, out: Path, tail: int) -> None:
    with source.pieces(placement.change) as pieces:
        size = sum(map(len, pieces)) + tail
    if size > LARGEST:
        raise OutputError(
            f"'{out}' would have {size / 1e9:.2f} GB with its weights inside, and an ONNX file cannot have more than "
            "2.147 GB; share or copy its external data instead."
        )


class _Beside:
    """Where external data lie, seen from the result: ONNX Runtime takes them from its folder and from those below."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.parent.resolve()

    def has(self, reference: Reference) -> bool:
        """Whether the result finds this file at the location that the original has."""
        return self._leads(reference.location, reference.part.path)

    def shared(self, reference: Reference) -> str:
        """The location at which the result finds the original's file.

        Raises:
            OutputError: it lies elsewhere.
        """
        file = reference.part.path
        if self.has(reference):
            return reference.location
        if not file.is_relative_to(self.folder):
            raise OutputError(
                f"The result cannot share '{file}', since ONNX Runtime reads weights only from the folder of the model "
                f"and below; write the result to '{file.parent}', or copy or inline its external data."
            )
        return file.relative_to(self.folder).as_posix()

    def copies(self, references: Iterable[Reference]) -> dict[Path, Path]:
        """Where each file of external data is to lie; those that are there already count as well.

        Raises:
            OutputError: another file is there, or two would lie in the same place.
        """
        targets: dict[Path, Path] = {}
        for file, location in {reference.part.path: reference.location for reference in references}.items():
            target = self.out.parent / (location if is_plain(location) else file.name)
            self._require_free(target, file)
            if target in targets.values():
                raise OutputError(f"Two files of external data would be copied to '{target}'; inline them instead.")
            targets[file] = target
        return targets

    def _require_free(self, target: Path, file: Path) -> None:
        if target == self.out or (target.exists() and self.out.exists() and target.samefile(self.out)):
            raise OutputError(
                f"'{self.out}' is the name of the model's external data; give another name for the result."
            )
        if not target.resolve().is_relative_to(self.folder):
            raise OutputError(f"'{target}' leads out of the result's folder; write the result to an empty folder.")
        if target.is_symlink() or target.exists():
            try:  # an earlier result may have left the same weights there
                same = target.samefile(file) or same_content(target, file)
            except OSError as error:
                raise _taken(target) from error
            if not same:
                raise _taken(target)

    def _leads(self, location: str, file: Path) -> bool:
        if not is_plain(location) or not file.is_relative_to(self.folder):
            return False
        return (self.folder / location).resolve() == file


def _write(file: BinaryIO, pieces: Iterable[wire.Piece]) -> None:
    for piece in pieces:
        if isinstance(piece, wire.FilePart):
            _append(file, piece)
        else:
            for start in range(0, len(piece), CHUNK):
                file.write(piece[start : start + CHUNK])
                wire.forget(piece)
    file.flush()


def _append(file: BinaryIO, part: wire.FilePart) -> None:
    try:
        source = open_file(part.path)
    except OSError as error:
        raise _unreadable(part.path, error) from error
    with source:
        source.seek(part.offset)
        left = part.length
        while left:
            content = source.read(min(left, CHUNK))
            if not content:
                raise ModelError(f"The external data '{part.path}' became shorter while they were read.")
            file.write(content)
            left -= len(content)


def _unreadable(file: Path, error: OSError) -> ModelError:
    return ModelError(f"The external data '{file}' cannot be read: {error.strerror or error}.")
