"""Each runtime stands behind one call here: a model's path and its inputs in, all outputs out.

What is here follows the runtime's own documentation and nothing else; `examples/` shows the same, made to be read.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Run = Callable[[Path, Mapping[str, np.ndarray]], Arrays]


def onnx_runtime(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """ONNX Runtime's Python API on the CPU: what the others are compared with."""
    import onnxruntime as ort

    return _onnx_runtime(path, feeds, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)


def plain_onnx_runtime(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """ONNX Runtime without its optimisations, which shows how far it is from itself."""
    import onnxruntime as ort

    return _onnx_runtime(path, feeds, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)


def _onnx_runtime(path: Path, feeds: Mapping[str, np.ndarray], level: Any) -> Arrays:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [out.name for out in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def reference(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """The evaluator that ships with the onnx package, its GatherElements mended (examples/reference says why)."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class GatherElements(OpRun):
        def _run(self, data: np.ndarray, indices: np.ndarray, axis: int = 0) -> tuple[np.ndarray]:
            return (np.take_along_axis(data, indices, axis),)

    evaluator = ReferenceEvaluator(str(path), new_ops=[GatherElements])
    return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))


def openvino(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """OpenVINO on the CPU, in float32 (some processors would get bfloat16), with the sizes of the inputs stated.

    Without them (2026.4) quantised models with a symbolic batch are computed wrong as soon as a graph has an Expand to
    the size of the batch.
    """
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    model.reshape({name: list(value.shape) for name, value in feeds.items()})
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(dict(feeds))
    return {_openvino_name(port): np.array(results[port]) for port in compiled.outputs}


def _openvino_name(port: Any) -> str:
    """A port may have several names where nodes were merged; ours are the ones that nobody else would give."""
    names = sorted(port.get_names())
    return next((name for name in names if name.startswith("xcam_")), names[0])


def opencv(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """OpenCV's own inference, the engine that is new in OpenCV 5."""
    import cv2

    network = cv2.dnn.readNetFromONNX(str(path), engine=cv2.dnn.ENGINE_NEW)
    for name, value in feeds.items():
        network.setInput(value, name)
    names = output_names(path)
    return dict(zip(names, network.forward(names), strict=True))


def tract(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """tract, which wants the sizes of the inputs before it compiles: symbols in the file, or the whole shape."""
    import tract as engine

    model = engine.onnx().load(path)
    order = [model.input_name(i) for i in range(model.input_count())]
    symbols: dict[str, int] = {}
    for index, name in enumerate(order):
        sizes = feeds[name].shape
        if name == "xcam_class":  # K as a number: the heat map is resized; one line for each image: as many as images
            lines = next((dim for dim, size in symbols.items() if size == sizes[0] > 1), sizes[0])
            model.set_input_fact(index, f"{lines},{sizes[1]},i64")
        else:
            stated = model.input_fact(index).dump().split(",")
            symbols.update({dim: size for dim, size in zip(stated, sizes, strict=False) if not dim.isdigit()})
    typed = model.into_model()
    if symbols:
        typed.transform(engine.SetSymbols(symbols))
    results = typed.into_runnable().run([feeds[name] for name in order])
    return {name: result.to_numpy() for name, result in zip(output_names(path), results, strict=True)}


def tinygrad(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """tinygrad's ONNX frontend on the CPU."""
    from tinygrad.nn.onnx import OnnxRunner

    results = OnnxRunner(path)(dict(feeds))
    return {name: np.asarray(value.numpy()) for name, value in results.items()}


def nxrt(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """nxrt, a young runtime with ONNX Runtime's API."""
    import nxrt as engine

    session = engine.InferenceSession(str(path))
    names = [out.name for out in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def mnn(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """MNN: converted with its own converter, then run through its expression API."""
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "model.mnn"
        program = Path(sys.executable).with_name("mnnconvert")
        command = [
            str(program),
            "-f",
            "ONNX",
            "--modelFile",
            str(path.resolve()),
            "--MNNModel",
            str(converted),
            "--bizCode",
            "x",
        ]
        subprocess.run(command, check=True, stdout=sys.stderr, cwd=folder)  # it leaves files where it runs
        from MNN import expr, nn

        names = output_names(path)
        net = nn.load_module_from_file(str(converted), list(feeds), names)
        variables = []
        for value in feeds.values():
            kind = {"float32": expr.float, "int64": expr.int, "uint8": expr.uint8}[str(value.dtype)]
            plain = value.astype(np.int32) if value.dtype == np.int64 else value
            variables.append(expr.const(plain.ravel().tolist(), list(value.shape), expr.NCHW, kind))
        results = net.forward(variables)
        return {name: np.array(result.read()) for name, result in zip(names, results, strict=True)}


def iree(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """IREE: imported to MLIR, compiled for this processor, run."""
    from iree import compiler, runtime

    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "model.mlir"
        command = [sys.executable, "-m", "iree.compiler.tools.import_onnx", str(path), "-o", str(text)]
        subprocess.run([*command, "--opset-version", "17"], check=True)
        options = ["--iree-llvmcpu-target-cpu=host"]
        binary = compiler.compile_file(str(text), target_backends=["llvm-cpu"], input_type="onnx", extra_args=options)
    context = runtime.SystemContext(config=runtime.Config("local-task"))
    module = runtime.VmModule.copy_buffer(context.instance, binary)
    context.add_vm_module(module)
    (name,) = (n for n in module.function_names if not n.startswith("__") and "$" not in n)
    results = context.modules[module.name][name](*feeds.values())
    results = results if isinstance(results, tuple | list) else [results]
    return {name: np.asarray(result.to_host()) for name, result in zip(output_names(path), results, strict=True)}


def tvm(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """Apache TVM: imported into Relax, compiled with LLVM."""
    import onnx
    import tvm as engine
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    shapes = {name: list(value.shape) for name, value in feeds.items()}
    module = from_onnx(onnx.load(path), shape_dict=shapes, keep_params_in_input=False)
    executable = engine.compile(module, target=engine.target.Target("llvm"))
    results = relax.VirtualMachine(executable, engine.cpu())["main"](*map(engine.runtime.tensor, feeds.values()))
    results = [results] if hasattr(results, "numpy") else list(results)
    return {name: result.numpy() for name, result in zip(output_names(path), results, strict=True)}


def onnx2torch(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """PyTorch, by way of the converter onnx2torch."""
    import torch
    from onnx2torch import convert

    with torch.no_grad():
        results = convert(str(path)).eval()(*(torch.from_numpy(value) for value in feeds.values()))
    results = results if isinstance(results, tuple | list) else [results]
    return {name: value.numpy() for name, value in zip(output_names(path), results, strict=True)}


def wonnx(path: Path, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """wonnx on WebGPU (Vulkan)."""
    import wonnx as engine

    session = engine.Session.from_path(str(path))
    results = session.run({name: value.ravel().tolist() for name, value in feeds.items()})
    return {name: np.asarray(value) for name, value in results.items()}


def output_names(path: Path) -> list[str]:
    """Names of a model's outputs, in order."""
    import onnx

    return [out.name for out in onnx.load(path, load_external_data=False).graph.output]


@dataclass(frozen=True)
class Runtime:
    """A row of the table.

    Attributes:
        title: as it is shown.
        package: the one that tells the version.
        form: the class input with which it can do most.
        run: how to run it.
    """

    title: str
    package: str
    form: str
    run: Run

    @property
    def version(self) -> str:
        """The version of the installed package.

        Raises:
            PackageNotFoundError: it is not installed here.
        """
        return metadata.version(self.package)


RUNTIMES = {
    "onnxruntime": Runtime("ONNX Runtime", "onnxruntime", "optional", onnx_runtime),
    "unoptimised": Runtime("ONNX Runtime, optimisations off", "onnxruntime", "optional", plain_onnx_runtime),
    "openvino": Runtime("OpenVINO", "openvino", "required", openvino),
    "opencv": Runtime("OpenCV DNN", "opencv-python", "required", opencv),
    "reference": Runtime("ONNX reference evaluator, GatherElements mended", "onnx", "required", reference),
    "tract": Runtime("tract", "tract", "required", tract),
    "tinygrad": Runtime("tinygrad", "tinygrad", "required", tinygrad),
    "mnn": Runtime("MNN", "mnn", "required", mnn),
    "onnx2torch": Runtime("PyTorch by onnx2torch", "onnx2torch", "required", onnx2torch),
    "tvm": Runtime("Apache TVM", "apache-tvm", "fixed", tvm),
    "iree": Runtime("IREE", "iree-base-compiler", "fixed", iree),
    "nxrt": Runtime("nxrt", "nxrt", "required", nxrt),
    "wonnx": Runtime("wonnx", "wonnx", "fixed", wonnx),
}
