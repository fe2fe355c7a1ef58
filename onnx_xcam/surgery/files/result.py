"""This module writes the instrumented model: the original and the tail, with external data shared, copied or inlined.

All checks come before the first write, and no file but the result itself is ever replaced. What is copied passes
through memory in small parts. All files are complete before the first one is moved to its place.
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
"""The largest number of bytes that a protobuf message, and so an ONNX file, can have."""
_OWNERS = 0o600
"""The permissions that the owner of a result has in any case, also if the files of its weights had fewer."""


@dataclass(frozen=True)
class _Placement:
    """A _Placement says what becomes of the external data.

    Attributes:
        copies: the files to copy, each with its target.
        change: what replaces tensors that lie in other files; None leaves all of them as they are.
        note: a sentence for the user, None where the model has no external data.
    """

    copies: Mapping[Path, Path]
    change: wire.Change | None
    note: str | None


def write_result(source: Source, out: Path, tail: bytes, choice: ExternalDataChoice) -> str | None:
    """Write an instrumented model to a file, and share, copy or inline its external data.

    Args:
        source: the original model.
        out: the file to write.
        tail: the serialised message that is appended to the original.
        choice: what becomes of the external data, as in `onnx_xcam.instrument_file`.

    Returns:
        A sentence on what became of the external data, None if there are none.

    Raises:
        OutputError: the result cannot be written, would replace the original, its weights or another file, or cannot
            have its weights as `choice` wants.
        ModelError: the external data cannot be located or read, as in `Source.references`.
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
    """Return a draft that copies a file of weights, with the same permissions."""
    try:
        status = file.stat()
    except OSError as error:
        raise _unreadable(file, error) from error
    draft = _drafted(target, [wire.FilePart(file, 0, status.st_size)])
    draft.copy_mode(status)
    return draft


def _drafted(path: Path, pieces: Iterable[wire.Piece], inside: Iterable[Path] = ()) -> Draft:
    """Return a draft: a file that is completely written but not in its place yet.

    Args:
        path: the place of the file.
        pieces: the contents.
        inside: files with weights among the contents; whoever must not read one of them must not read the result.
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
    """Move a draft to its place."""
    with writing_to(draft.path):
        draft.place()


def _is_there(copy: Draft) -> bool:
    """Tell whether another process has meanwhile put the same file in the place of this copy.

    Raises:
        OutputError: a different file is there.
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
    """Return an error that says that another file is in the place of a copy."""
    return OutputError(f"'{target}' exists already, with other content; remove it, or write to an empty folder.")


def _placed(source: Source, references: Sequence[Reference], out: Path, choice: ExternalDataChoice) -> _Placement:
    """Decide what becomes of the external data; nothing is written yet."""
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
    """Return a change that gives each tensor with external data the new location of its file."""

    def change(tensor: onnx.TensorProto) -> list[wire.Piece]:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        relocate(copy, locations[external.reference(tensor).part.path])
        return [copy.SerializeToString()]

    return change


def _inside(external: ExternalData) -> wire.Change:
    """Return a change that puts the values of tensors with external data into the model file."""
    return lambda tensor: wire.inlined(tensor, external.reference(tensor).part)


def _require_small(source: Source, placement: _Placement, out: Path, tail: int) -> None:
    """Raise OutputError if the result would be larger than a protobuf message can be; `tail` is in bytes."""
    with source.pieces(placement.change) as pieces:
        size = sum(map(len, pieces)) + tail
    if size > LARGEST:
        raise OutputError(
            f"'{out}' would have {size / 1e9:.2f} GB with its weights inside, and an ONNX file cannot have more than "
            "2.147 GB; share or copy its external data instead."
        )


class _Beside:
    """A _Beside object finds places for external data in a result's folder or below, as ONNX Runtime requires."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.parent.resolve()

    def has(self, reference: Reference) -> bool:
        """Tell whether the result finds this file at the location that the original gives."""
        return self._leads(reference.location, reference.part.path)

    def shared(self, reference: Reference) -> str:
        """Return the location at which the result finds the original's file.

        Raises:
            OutputError: the file lies neither in the result's folder nor below.
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
        """Return for each file of external data the place of its copy, also where an equal copy is there already.

        Raises:
            OutputError: another file is in that place, or two files would be copied to one place.
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
        """Raise OutputError unless a file can be copied to this place, or an equal one is there already."""
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
        """Tell whether a location, seen from the result's folder, leads to this file."""
        if not is_plain(location) or not file.is_relative_to(self.folder):
            return False
        return (self.folder / location).resolve() == file


def _write(file: BinaryIO, pieces: Iterable[wire.Piece]) -> None:
    """Write pieces to a file in small parts, and give back the memory of mapped pieces."""
    for piece in pieces:
        if isinstance(piece, wire.FilePart):
            _append(file, piece)
        else:
            for start in range(0, len(piece), CHUNK):
                file.write(piece[start : start + CHUNK])
                wire.forget(piece)
    file.flush()


def _append(file: BinaryIO, part: wire.FilePart) -> None:
    """Copy a part of another file to the end of a file."""
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
    """Return an error that says why a file of external data cannot be read."""
    return ModelError(f"The external data '{file}' cannot be read: {error.strerror or error}.")
