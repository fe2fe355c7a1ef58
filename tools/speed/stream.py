"""Measure a stream of photos: throughput against a bare loop, resident memory over thousands, latency, many classes.

    python -m tools.speed.stream throughput sample_models/efficientnet_lite0.onnx FOLDER
    python -m tools.speed.stream memory FOLDER
    python -m tools.speed.stream latency sample_models/efficientnet_lite0.onnx FOLDER
    python -m tools.speed.stream classes resnet50.onnx --layer LAYER

FOLDER holds photos: `python -m tools.speed.photos FOLDER` makes some. Timings are ratios or medians from one machine,
taken in turns in one process; none of them is a test. `memory` and `classes` read Linux's /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tools.common import command_line
from tools.common.memory import memory

ALONE = (sys.executable, "-W", "ignore", "-m", "tools.speed.stream")
"""Starts this program in a process of its own."""


# --- throughput -------------------------------------------------------------------------------------------------------


def bare_loop(model: Path, photos: Sequence[Path], preprocess: Any, spec: Any, session: Any) -> Callable[[], None]:
    """What one would write without this package: decode, the same resizing by Pillow, a table of values, run."""
    import cv2
    from PIL import Image

    from onnx_xcam.images.prepare import _value_table

    table = _value_table(preprocess, spec)
    size = preprocess.input_size(spec)
    names = [output.name for output in session.get_outputs()]
    resample = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC}[preprocess.interpolation]

    def run() -> None:
        for path in photos:
            photo = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            box = preprocess.placement(photo.shape[:2], size).box
            inside = np.clip((box[1], box[0], box[3], box[2]), 0, (*photo.shape[1::-1],) * 2)
            small = np.asarray(Image.fromarray(photo).resize(size[::-1], resample, tuple(inside)))
            item = np.stack([column[small[..., channel]] for channel, column in enumerate(table)])
            session.run(names, {spec.name: item[None]})

    return run


def measure_throughput(options: argparse.Namespace) -> None:
    """Measure photos a second of `explain` against a bare loop over the original model, in turns."""
    import onnxruntime as ort

    from onnx_xcam import Explainer
    from onnx_xcam.jobs.explain_photos import ExplainJob
    from onnx_xcam.jobs.photos import find_pictures
    from onnx_xcam.jobs.reporter import Silent
    from onnx_xcam.jobs.result_files import Writing
    from onnx_xcam.runtime.session import _options

    known = None if "efficientnet_lite0" in options.model.name else "imagenet"
    explainer = Explainer(options.model, preprocess=known, threads=options.threads, providers="cpu")
    photos = sorted(options.folder.glob("*.jpg"))[: options.count]
    ours = _options(ort, options.threads, None, "all")
    plain = ort.SessionOptions()
    plain.log_severity_level, plain.intra_op_num_threads = 3, options.threads or 0
    sessions = [ort.InferenceSession(str(options.model), one, ["CPUExecutionProvider"]) for one in (ours, plain)]

    def job(*, pictures: bool, raw: bool) -> Callable[[], None]:
        def run() -> None:
            said = io.StringIO()
            quiet = contextlib.redirect_stdout(said), contextlib.redirect_stderr(said)
            with tempfile.TemporaryDirectory() as out, quiet[0], quiet[1]:
                found = find_pictures(photos, recursive=False, leave_out=Path(out))
                writing = Writing(pictures=pictures, raw=raw, beside=False)
                work = ExplainJob(found, Path(out), writing=writing, resume=False, reporter=Silent())
                assert work.run(explainer, explainer.choose()) == 0

        return run

    spec = explainer.model.photos.spec
    loops = {
        "bare loop, session options of Explainer": bare_loop(
            options.model, photos, explainer.preprocess, spec, sessions[0]
        ),
        "bare loop, ONNX Runtime's defaults": bare_loop(options.model, photos, explainer.preprocess, spec, sessions[1]),
        "explain --raw --no-pictures": job(pictures=False, raw=True),
        "explain, PNGs not encoded": _without_png(job(pictures=True, raw=False)),
        "explain": job(pictures=True, raw=False),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    for name in itertools.chain(loops, *([*loops, *reversed(loops)] for _ in range(options.rounds // 2))):
        cpu = time.process_time()
        found[name].append((_seconds(loops[name]), time.process_time() - cpu))
    print(
        f"{options.model.stem}, {len(photos)} photos: photos a second, ratio to the first (range), processor time each"
    )
    first = statistics.median(seconds for seconds, _ in next(iter(found.values()))[1:])
    for name, (_, *pairs) in found.items():
        wall, cpu = ([pair[n] for pair in pairs] for n in (0, 1))
        median, spread = statistics.median(wall), f"{first / max(wall):.2f} to {first / min(wall):.2f}"
        milliseconds = f"{statistics.median(cpu) / len(photos) * 1000:.1f} ms"
        print(f"| {name} | {len(photos) / median:.1f} | {first / median:.2f} ({spread}) | {milliseconds} |", flush=True)


def _without_png(job: Callable[[], None]) -> Callable[[], None]:
    from onnx_xcam.jobs import result_files

    def run() -> None:
        encode = result_files.encode_image
        result_files.encode_image = lambda picture, suffix: b""
        try:
            job()
        finally:
            result_files.encode_image = encode

    return run


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


# --- memory over thousands of images ----------------------------------------------------------------------------------


def measure_memory(options: argparse.Namespace) -> None:
    """Measure resident memory after 2,000 and 20,000 images of mixed sizes; each kind in a process of its own."""
    for kind in ("photos", "pictures", "tensors"):
        command = [*ALONE, "once", kind, str(options.folder), str(options.count)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(output.splitlines()[-1])
        first, last = found[0], found[-1]
        print(f"{kind}: " + ", ".join(f"{mb:.1f} MB after {n:,}" for n, mb in found), flush=True)
        print(f"  grown by {last[1] - first[1]:.1f} MB", flush=True)


def memory_once(options: argparse.Namespace) -> None:
    """Run one kind in this process: photos to arrays, photos to pictures, or tensors of changing sizes."""
    import onnx

    from onnx_xcam import Explainer

    random = np.random.default_rng(0)
    open_size = options.kind == "tensors"
    text = TINY.replace("32,32", "H,W") if open_size else TINY
    explainer = Explainer(onnx.parser.parse_model(text), preprocess="unit", providers="cpu")
    files = sorted(options.folder.glob("*.jpg"))

    def images() -> Iterator[Any]:
        for n in range(options.count):
            if open_size:
                yield np.full((1, 3, *random.integers(32, 600, 2)), 0.5, np.float32)
            else:
                yield files[n % len(files)]

    def each(one: Any) -> None:
        explanation = one.unwrap()
        if options.kind == "pictures":
            explanation.save(target / f"{explanation.classes[0, 0]}-{id(one) % 7}.png")

    marks = sorted({options.count // 10, options.count // 4, options.count // 2, options.count})
    found = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        for n, _ in enumerate(explainer.stream(images(), each=each), 1):
            if n in marks:
                found.append((n, memory("VmRSS") / 1e6))
    print(json.dumps(found))


TINY = """<ir_version: 8, opset_import: ["": 17]> tiny (float[N,3,32,32] image) => (float[N,2] logits)
<float[4,3,3,3] weight = {WEIGHT}, float[4,2] head = {1, 2, 3, 4, 5, 6, 7, 8}>
{ conv = Conv<strides=[2,2]>(image, weight) act = Relu(conv) mean = GlobalAveragePool(act) flat = Flatten(mean)
  logits = Gemm(flat, head) }""".replace("WEIGHT", ", ".join(str(n % 7 - 2) for n in range(108)))


# --- latency ----------------------------------------------------------------------------------------------------------


def measure_latency(options: argparse.Namespace) -> None:
    """Measure what `explainer.explain(photo)` takes beyond decoding and `session.run`."""
    from onnx_xcam import Explainer
    from onnx_xcam.images.read import read_image

    known = None if "efficientnet_lite0" in options.model.name else "imagenet"
    explainer = Explainer(options.model, preprocess=known, threads=options.threads, providers="cpu")
    session = explainer.model.loaded.session
    names = [output.name for output in session.outputs]
    for path in sorted(options.folder.glob("*.jpg"))[: options.count]:
        photo = read_image(path)
        picture = explainer.prepare(photo)
        feeds = {explainer.model.photos.spec.name: picture.item[None]}
        calls: dict[str, Callable[[], Any]] = {
            "read": lambda path=path: read_image(path),
            "prepare": lambda photo=photo: explainer.prepare(photo),
            "session.run": lambda feeds=feeds: session.run(feeds, names),
            "explain(prepared)": lambda picture=picture: explainer.explain(picture),
            "explain(path)": lambda path=path: explainer.explain(path),
        }
        found: dict[str, list[float]] = {name: [] for name in calls}
        for name in [*calls] * (options.rounds + 1):
            found[name].append(_seconds(calls[name]))
        text = ", ".join(f"{name} {statistics.median(seconds[1:]) * 1000:.2f} ms" for name, seconds in found.items())
        print(f"{photo.shape[1]} x {photo.shape[0]}: {text}", flush=True)


# --- many classes -----------------------------------------------------------------------------------------------------


def measure_classes(options: argparse.Namespace) -> None:
    """Measure peak memory and runs of many classes of one image, each number in a process of its own."""
    for layer in options.layer or ["auto"]:
        for classes in options.classes:
            command = [*ALONE, "many", str(options.model), layer, str(classes)]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


def classes_once(options: argparse.Namespace) -> None:
    """Explain one number of classes in this process, and print what that takes."""
    from onnx_xcam import Explainer

    explainer = Explainer(options.model, layers=options.layer, preprocess="imagenet", providers="cpu")
    photo = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    explainer.explain(photo)
    before, runs, run = memory("VmHWM"), [], explainer.model.loaded.session.run

    def counted(feeds: Any, outputs: Any) -> Any:
        runs.append(1)
        return run(feeds, outputs)

    explainer.model.loaded.session.run = counted  # type: ignore[method-assign]
    seconds = _seconds(lambda: explainer.explain(photo, top=options.count))
    peak = memory("VmHWM") - before
    figures = f"{len(runs)} runs, peak {peak / 1e6:.0f} MB above one class, {seconds:.2f} s"
    print(f"{options.layer}: {options.count} classes, {figures}")


COMMANDS = {
    "throughput": measure_throughput,
    "memory": measure_memory,
    "latency": measure_latency,
    "classes": measure_classes,
    "once": memory_once,
    "many": classes_once,
}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line.parser("tools.speed.stream", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, count, rounds in (("throughput", 240, 6), ("latency", 8, 15)):
        one = commands.add_parser(name)
        one.add_argument("model", type=Path)
        one.add_argument("folder", type=Path)
        one.add_argument("--count", type=int, default=count, help=f"photos (default: {count})")
        one.add_argument("--rounds", type=int, default=rounds)
        one.add_argument("--threads", type=int)
    flat = commands.add_parser("memory", help="resident memory over thousands of images")
    flat.add_argument("folder", type=Path)
    flat.add_argument("--count", type=int, default=20_000)
    classes = commands.add_parser("classes", help="peak memory of many classes")
    classes.add_argument("model", type=Path)
    classes.add_argument("--layer", nargs="*")
    classes.add_argument("--classes", type=int, nargs="+", default=[1, 10, 100, 1000])
    once = commands.add_parser("once", help="what `memory` starts")
    once.add_argument("kind", choices=("photos", "pictures", "tensors"))
    once.add_argument("folder", type=Path)
    once.add_argument("count", type=int)
    many = commands.add_parser("many", help="what `classes` starts")
    many.add_argument("model", type=Path)
    many.add_argument("layer")
    many.add_argument("count", type=int)
    return parser.parse_args()


def main() -> None:
    """Read the command line, and measure."""
    options = parse()
    COMMANDS[options.command](options)


if __name__ == "__main__":
    main()
