"""Compare the kinds of weights that the sample model can be quantised to: what each says and takes on this processor.

    python -m tools.formats.int8_weights FOLDER --pattern 'imagenet_*.jpg'

The float sample is quantised with int8, 7-bit and uint8 weights, else in the same way. Photos are the shipped ones and
those of the folder, each in five versions: as it is, mirrored, two parts of it enlarged, and with half the contrast.
Printed are how often the float model's top class is kept, the correlation of the logits with the float model's (mean
and smallest), and the time of a run over one of the float model: medians of runs in turns, with one thread. With
tools/runtimes/without_vnni.c loaded, the same as on a processor without VNNI.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort

from onnx_xcam.runtime import Arithmetic, Session, open_session
from tools.common import command_line
from tools.common.folders import PHOTOS, SAMPLE_MODELS
from tools.release.sample_models import Photo, quantise, read_photo

KINDS = {"int8": ("QInt8", False), "int8 of 7 bits": ("QInt8", True), "uint8": ("QUInt8", False)}
WAYS: tuple[Arithmetic, ...] = ("default", "uint8 weights")


def versions(photo: Path) -> list[np.ndarray]:
    """Five versions of a photo, each float32 [1,3,224,224]."""
    whole = read_photo(photo)

    def part(rows: slice) -> np.ndarray:
        pixels = np.ascontiguousarray(whole[:, rows, rows].transpose(1, 2, 0))
        return cv2.resize(pixels, (224, 224)).transpose(2, 0, 1)

    made = [whole, whole[..., ::-1], part(slice(30, 190)), part(slice(0, 150)), whole * np.float32(0.5)]
    return [np.ascontiguousarray(one)[None] for one in made]


def logits(session: Session, batch: list[np.ndarray]) -> np.ndarray:
    """The logits of all images, float32 [N,1000]."""
    return np.concatenate([session.run({"image": one}, ["logits"])["logits"] for one in batch])


def times(sessions: dict[str, Session], image: np.ndarray, rounds: int) -> dict[str, float]:
    """The median seconds of a run, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run({"image": image}, ["logits"])
            taken[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in taken.items()}


def main() -> None:
    """Quantise, compare, print a table."""
    parser = command_line.parser("tools.formats.int8_weights", __doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="more photos")
    parser.add_argument("--pattern", default="*", help="of the photos' names in these folders (default: all)")
    parser.add_argument("--rounds", type=int, default=100, help="runs of each that are timed (default: 100)")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the quantiser's, on biases of channels whose weights are next to nothing
    shipped = sorted((PHOTOS).iterdir())
    model = onnx.load(SAMPLE_MODELS / "efficientnet_lite0.onnx")
    sessions = {"float32": open_session(model.SerializeToString(), providers="cpu", threads=1)}
    for kind, (weights, reduced) in KINDS.items():
        made = quantise(model, [Photo(path.name, path) for path in shipped], weights, reduce_range=reduced)
        for way in WAYS if kind == "int8" else WAYS[:1]:
            name = kind if way == "default" else f"{kind}, exact"
            sessions[name] = open_session(made.SerializeToString(), providers="cpu", threads=1, arithmetic=way)
    photos = [*shipped, *(path for folder in options.folders for path in sorted(folder.glob(options.pattern)))]
    batch = [one for photo in photos for one in versions(photo)]
    found = {name: logits(session, batch) for name, session in sessions.items()}
    taken = times(sessions, batch[0], options.rounds)
    print(f"{len(batch)} pictures, ONNX Runtime {ort.__version__}", file=sys.stderr)
    print("| weights | top class kept | correlation, mean | smallest | time / float32 |\n|---|---|---|---|---|")
    for name, ours in found.items():
        kept = int((ours.argmax(1) == found["float32"].argmax(1)).sum())
        near = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours, found["float32"], strict=True)]
        ratio = taken[name] / taken["float32"]
        print(f"| {name} | {kept} of {len(ours)} | {np.mean(near):.4f} | {min(near):.4f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
