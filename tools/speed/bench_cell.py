"""Measure one model, layer, batch size and number of threads, for `bench.py`, in a process of its own.

python -m tools.speed.bench_cell prepare NAME FOLDER       # torch's model with random weights: NAME.onnx and NAME.pt
python -m tools.speed.bench_cell cell < cell.json          # one record of figures, as JSON
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from onnx_xcam import contract
from onnx_xcam.benchmark.machine import machine, versions
from onnx_xcam.benchmark.memory import Job, is_measurable, measured
from onnx_xcam.benchmark.timing import in_turns
from onnx_xcam.cams.contributions import map_of
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.cams.xgrad import xgrad_cam
from onnx_xcam.explainer.memory import bytes_of_a_class
from onnx_xcam.metadata import Metadata
from onnx_xcam.runtime import open_session
from onnx_xcam.runtime.batching import classes_per_run
from onnx_xcam.surgery import inspect, instrument_bytes
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.submodels.more_outputs import with_outputs
from tools.common.layers import by_nearness_to_the_middle
from tools.common.sessions import session
from tools.speed.bench_formulas import cosine, lined

PLAIN, OURS, EAGER, ONNX_AD = "onnxruntime forward", "onnx_xcam", "torch forward", "onnx-ad"
SAME = 0.999
"""A cosine between maps from which on they are the same; below, a tool is not timed."""
CANDIDATES = 8
"""So many layers around the middle are tried until one is the output of a module."""
PEERS_CLASSES = {"torchcam XGradCAM": (1, 10, 1000), "pytorch-grad-cam GradCAM": (1,)}
"""What is measured of whom, else 1 and 10; 1000 are then extrapolated from the time that each further class takes. Of
torchcam a class costs so little that this would be noise; pytorch-grad-cam's GradCAM takes as long as its XGradCAM."""
SHARE, LEAST, PATIENCE = 6.0, 4, 4.0
"""What takes long does not run in every round; see `in_turns`."""
PAUSE = 0.02
"""Seconds before each run where torch has several threads: until then these have stopped waiting busily for work."""


@dataclass(frozen=True)
class Cell:
    """What to measure.

    Attributes:
        model: torch's name, or an ONNX file, of which only its own plain forward is a peer.
        layer: "auto" or "middle".
        folder: where the models of torch's names are.
        classes: numbers of classes.
        seconds: about, for all of it.
    """

    model: str
    layer: str
    batch: int
    threads: int
    folder: str
    classes: Sequence[int]
    seconds: float
    peers: bool = True

    @property
    def key(self) -> list[Any]:
        """What tells it from others."""
        return [self.model, self.layer, self.batch, self.threads]

    @property
    def path(self) -> Path:
        """The ONNX file."""
        return Path(self.model) if self.model.endswith(".onnx") else stored(self.model, Path(self.folder))


def stored(name: str, folder: Path) -> Path:
    """Where the model of a torch name is kept."""
    return folder / f"{name.replace(':', '_')}.onnx"


def prepare(name: str, folder: Path) -> None:
    """Write a torch model with random weights as ONNX, batch symbolic, and as a state. A file that is there is kept, if
    it holds the same weights."""
    import torch

    from tools.common import torch_models as models

    model = models.build(name)
    images = models.test_images(name, 4)
    models.randomise(model, images)
    path = stored(name, folder)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    if not (path.is_file() and np.allclose(_plain(path, images), expected, atol=1e-3 * np.abs(expected).max())):
        models.export(model, models.image_size(name), path, "torchscript", "dynamic")
    torch.save(model.state_dict(), path.with_suffix(".pt"))


def _plain(path: Path, images: np.ndarray) -> np.ndarray:
    plain = session(path, 1)
    return np.asarray(plain.run(None, {plain.get_inputs()[0].name: images})[0])


class Measurement:
    """The contenders of a cell on the same images, checked and then timed."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.skipped: dict[str, str] = {}
        self.cosines: dict[str, float] = {}
        self.plain = open_session(cell.path, providers="cpu", threads=cell.threads)
        self.outputs = [output.name for output in self.plain.outputs]
        (self.image,) = self.plain.inputs
        self.images = self._images(cell.batch)
        self.model = self._module() if cell.peers and not cell.model.endswith(".onnx") else None
        self.layer, self.hooked = self._chosen()
        self.made_bytes = instrument_bytes(cell.path, layers=self.layer, emit=("map",))
        self.made = open_session(self.made_bytes, providers="cpu", threads=cell.threads)
        self.metadata = Metadata.from_props(self.made.metadata, str(cell.path))
        self.most = self.metadata.class_count or 1
        self.peers: dict[str, Any] = dict(self._peers()) if self.model is not None else {}

    def _images(self, batch: int) -> np.ndarray:
        if not self.cell.model.endswith(".onnx"):
            from tools.common import torch_models

            return torch_models.test_images(self.cell.model, batch)
        from tools.common.images import pixels_nhwc

        pixels = pixels_nhwc(batch, 224).transpose(0, 3, 1, 2)
        return np.ascontiguousarray((pixels - 127) / 128, np.float32)

    def _module(self) -> Any:
        """The module that the ONNX file was exported from."""
        import cv2
        import torch

        from tools.common import torch_models

        torch.set_num_threads(self.cell.threads)
        cv2.setNumThreads(self.cell.threads)
        model = torch_models.build(self.cell.model)
        model.load_state_dict(torch.load(self.cell.path.with_suffix(".pt")))
        return model

    def _chosen(self) -> tuple[str, Any]:
        """The layer, and how it is to be hooked; in the middle the nearest one that can be."""
        path = self.cell.path
        if self.cell.layer == "auto":
            names = [layer.name for layer in inspect(path).layers if layer.default]
        else:
            names = by_nearness_to_the_middle(path)[:CANDIDATES]
        if not names:
            raise SystemExit(f"{self.cell.model} has no such layer")
        if self.model is None:
            return names[0], None
        from tools.speed import bench_peers

        values = session(with_outputs(path.read_bytes(), names), 1).run(names, {self.image.name: self.images[:1]})
        try:
            found = bench_peers.find_module(self.model, self.images[:1], dict(zip(names, values, strict=True)))
        except bench_peers.UnusableError as error:
            self.skipped |= dict.fromkeys(bench_peers.TORCH_PEERS, str(error))
            return names[0], None
        return found[0], found[1:]

    def _peers(self) -> Iterator[tuple[str, Any]]:
        """Those that can explain this layer; the others are noted."""
        from tools.speed import bench_peers

        layout, grid = self.metadata.layout(0), self.metadata.grid(0)
        makers: dict[str, Callable[[], Any]] = {}
        if self.hooked:
            target = bench_peers.Target(self.model, *self.hooked, layout, grid)
            makers |= {n: partial(make, target, self.images) for n, make in bench_peers.TORCH_PEERS.items()}
        makers[ONNX_AD] = partial(
            bench_peers.onnx_ad_xgrad,
            str(self.cell.path),
            self.metadata,
            threads=self.cell.threads,
            images=self.images,
        )
        for name, make in makers.items():
            try:
                yield name, make()
            except (bench_peers.UnusableError, ImportError) as error:
                self.skipped[name] = str(error)

    def _eager(self) -> None:
        import torch

        with torch.inference_mode():
            self.model(torch.from_numpy(self.images)).numpy()

    @property
    def reference(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A and G as the instrumented model emits them, and the classes, for the first two images and classes."""
        if not hasattr(self, "_reference"):
            model = instrument_bytes(self.cell.path, layers=self.layer, emit=("activations", "gradients"))
            full = open_session(model, providers="cpu", threads=self.cell.threads)
            feeds = {self.image.name: self.images[:2], contract.CLASS_INPUT: np.array([[-1, -2]])}
            names = [contract.output_name("activations"), contract.output_name("gradients"), contract.CLASSES]
            self._reference = tuple(full.run(feeds, names).values())
        a, g, classes = self._reference
        return a, g, classes

    # --- are the maps right? ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Compare every contender's maps with its own formula on A and G; those that differ are not timed."""
        a, g, classes = self.reference
        layout, grid = contract.images_first(self.metadata.layout(0)), self.metadata.grid(0)
        a, g, size = lined(a.astype(np.float64), g.astype(np.float64), layout, grid)
        ours = self.made.run(
            {self.image.name: self.images[:2], contract.CLASS_INPUT: classes}, [contract.output_name("map")]
        )
        xp = NumpyArrays()
        expected = np.maximum(map_of(xp, xgrad_cam(xp, a, g, non_negative=False)), 0)
        self.cosines[OURS] = cosine(ours[contract.output_name("map")], expected)
        if self.cosines[OURS] < SAME:
            raise SystemExit(f"{self.cell.key}: our own map is wrong: cosine {self.cosines[OURS]}")
        everyone = self.classes(2)
        for name, peer in list(self.peers.items()):
            found = peer.maps(everyone)[: len(a)]
            # A module that a ReLU in place follows is hooked with A after it and G before it.
            before = g * (a > 0)[:, None]
            self.cosines[name] = max(cosine(found, peer.expected(a, slopes, size)) for slopes in (g, before))
            if not self.cosines[name] >= SAME:
                self.skipped[name] = f"its map is not what its formula gives: cosine {self.cosines[name]:.4f}"
                del self.peers[name]

    def classes(self, count: int) -> np.ndarray:
        """The best classes of each image, int64 [N,count]."""
        if not hasattr(self, "_best"):
            feeds = {self.image.name: self.images, contract.CLASS_INPUT: -np.arange(1, self.most + 1)[None]}
            model = instrument_bytes(self.cell.path, emit=())
            best = open_session(model, providers="cpu", threads=self.cell.threads)
            self._best = best.run(feeds, [contract.CLASSES])[contract.CLASSES]
        return np.ascontiguousarray(self._best[:, :count])

    # --- timing and memory --------------------------------------------------------------------------------------------

    def calls(self) -> dict[str, Callable[[], Any]]:
        """What is timed, by `name, classes`."""
        plain = {self.image.name: self.images}
        found: dict[str, Callable[[], Any]] = {f"{PLAIN}, 0": lambda: self.plain.run(plain, self.outputs)}
        outputs = [output.name for output in self.made.outputs]
        skeleton = Source(self.made_bytes).skeleton().SerializeToString()
        maps = [output for output in self.made.outputs if output.name == contract.output_name("map")]
        each = bytes_of_a_class(skeleton, {self.image.name: self.images.shape}, self.image.name, maps)
        for count in self.cell.classes:
            step = count if count == 1 else classes_per_run(each)
            chunks = [-np.arange(at + 1, min(at + step, count) + 1)[None] for at in range(0, count, step)]
            feeds = [plain] if count == 1 else [{**plain, contract.CLASS_INPUT: chunk} for chunk in chunks]
            found[f"{OURS}, {count}"] = lambda feeds=feeds: [self.made.run(feed, outputs) for feed in feeds]
        if self.model is not None:
            found[f"{EAGER}, 0"] = self._eager
        for name, peer in self.peers.items():
            for count in self.cell.classes:
                if count == 1 or (self.cell.batch == 1 and count in PEERS_CLASSES.get(name, (1, 10))):
                    found[f"{name}, {count}"] = partial(peer.maps, self.classes(count))
        return found

    def record(self) -> dict[str, Any]:
        """All figures of the cell."""
        self.check()
        calls = self.calls()
        pause = PAUSE if self.model is not None and self.cell.threads > 1 else 0.0
        seconds = self.cell.seconds
        timings = in_turns(calls, seconds, least=LEAST, longest=PATIENCE * seconds, share=SHARE, pause=pause)
        base = next(iter(calls))
        figures = [
            {
                "name": name.rpartition(", ")[0],
                "classes": int(name.rpartition(", ")[2]),
                "ms": timings.spread(name).scaled(1000).to_dict(),
                "ratio": timings.ratio(name, base).to_dict(),
                "rounds": len(timings.seconds(name)),
            }
            for name in calls
        ]
        packages = ("onnx-xcam", "onnxruntime", "torch", "torchvision", "timm", "captum", "torchcam", "grad-cam")
        return {
            "key": self.cell.key,
            "layer": self.metadata.layers[0],
            "module": self.hooked[0] if self.hooked else None,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine(),
            "versions": versions(*packages, "onnx-ad", "onnx", "numpy"),
            "seconds": self.cell.seconds,
            "figures": figures,
            "cosines": self.cosines,
            "skipped": self.skipped,
            "memory": self.memory(),
        }

    def memory(self) -> dict[str, Any] | None:
        """Peak memory of a run with one class, and of the plain model's, at the default layer."""
        if self.cell.layer != "auto" or not is_measurable():
            return None
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "made.onnx").write_bytes(self.made_bytes)
            found = {}
            for who, path in ((PLAIN, self.cell.path), (OURS, folder / "made.onnx")):
                job = Job(str(path), None, ["cpu"], self.cell.threads)
                found[who] = measured(job.fed({self.image.name: self.images}, [[]], folder / "feeds.npz")).to_dict()
        return found


def main() -> None:
    """Do what the command line says."""
    if sys.argv[1] == "prepare":
        prepare(sys.argv[2], Path(sys.argv[3]))
    else:
        json.dump(Measurement(Cell(**json.load(sys.stdin))).record(), sys.stdout)


if __name__ == "__main__":
    main()
