"""This module opens ONNX Runtime sessions, which several threads may share, and turns their errors into XcamErrors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.common.arguments import whole
from onnx_xcam.common.operators import called, origin
from onnx_xcam.errors import InputError, ModelError, ProviderError
from onnx_xcam.runtime.providers import CPU, CUDA, check_running, import_onnxruntime, resolve_providers

Feed: TypeAlias = Any
"""A Feed is a numpy array or what `Session.hold` made of one; None stands for an input that no node reads."""

_LOG_ERRORS_ONLY = 3
"""Sessions log errors and no warnings: every model with an optional `xcam_class` would cause one when it is loaded."""
_LOG_FATAL_ONLY = 4
"""Runs log no errors either: what fails there is raised."""

_MOST_THREADS = 1024
"""More threads are refused: ONNX Runtime starts as many as asked, and ends the process where the system has no more."""

_DTYPES = {
    "float16": np.float16,
    "float": np.float32,
    "double": np.float64,
    "uint8": np.uint8,
    "int8": np.int8,
    "uint16": np.uint16,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "bool": np.bool_,
}


@dataclass(frozen=True)
class TensorInfo:
    """A TensorInfo describes an input or output of a model.

    Attributes:
        name: the tensor's name.
        shape: one entry per axis: its length, the name of a symbolic length, or None where nothing is known.
        dtype: the numpy type of the elements, None for types that numpy lacks (bfloat16, strings, sequences).
        kind: ONNX Runtime's name of the type: "float", "string", "seq(tensor(float))".
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: np.dtype[Any] | None
    kind: str = ""


class Cancellation:
    """A Cancellation ends runs from another thread: all that it was passed to, and all that it is passed to later."""

    def __init__(self) -> None:
        self.options = import_onnxruntime().RunOptions()
        self.options.log_severity_level = _LOG_FATAL_ONLY

    def cancel(self) -> None:
        """End the runs before their next operator; they raise a ModelError."""
        self.options.terminate = True


class Session:
    """A Session is a loaded model, which several threads may run at once.

    An input of one picture without an axis of images, `[3,H,W]`, is shown as `[1,3,H,W]` and fed such an array.

    Attributes:
        inputs: the inputs without a default value.
        optional_inputs: the inputs with a default value (an initializer of the same name).
        outputs: the outputs.
        metadata: the model's `metadata_props`.
        providers: the full names of the providers in use, the preferred one first.
        provider_warning: a sentence on a provider that could not be started, or None.
    """

    def __init__(self, session: Any, note: str | None = None) -> None:
        self._session = session
        inputs = tuple(_info(node) for node in session.get_inputs())
        self._single = {info.name for info in inputs if contract.lacks_images(info.shape)}
        self.inputs = tuple(replace(i, shape=(1, *i.shape)) if i.name in self._single else i for i in inputs)
        self.optional_inputs = tuple(_info(node) for node in session.get_overridable_initializers())
        self.outputs = tuple(_info(node) for node in session.get_outputs())
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self.provider_warning = note
        self._on_device = self.providers[0] == CUDA
        self._never = Cancellation()

    def hold(self, array: NDArray[Any] | None) -> Feed:
        """Copy an array to the device of the session, so that several runs can be fed it without another copy."""
        if not self._on_device or not _is_numeric(array):
            return array
        return import_onnxruntime().OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"), "cuda", 0)

    def run(
        self, feeds: Mapping[str, Feed], outputs: Sequence[str], cancellation: Cancellation | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run the model once and return the named outputs by name.

        Raises:
            InputError: a feed does not fit the model's inputs.
            ModelError: ONNX Runtime failed while it ran the model (out of memory, for instance), or the run was
                cancelled.
        """
        run = self._run_bound if self._on_device else self._run_plain
        feeds = {name: _one_picture(value) if name in self._single else value for name, value in feeds.items()}
        with _errors_of_run():
            return dict(zip(outputs, run(feeds, outputs, cancellation), strict=True))

    def _run_plain(
        self, feeds: Mapping[str, Feed], outputs: Sequence[str], by: Cancellation | None = None
    ) -> list[NDArray[Any]]:
        """Run the model with feeds and outputs in ordinary memory."""
        return list(self._session.run(list(outputs), dict(feeds), (by or self._never).options))

    def _run_bound(
        self, feeds: Mapping[str, Feed], outputs: Sequence[str], by: Cancellation | None = None
    ) -> list[NDArray[Any]]:
        """Run the model with I/O binding: feeds that `hold` put on the device stay there, others are copied once."""
        from_numpy = import_onnxruntime().OrtValue.ortvalue_from_numpy
        binding = self._session.io_binding()
        for name, value in feeds.items():
            if value is None:
                continue
            # As an OrtValue: binding a numpy array directly fails for inputs with a default value (ORT 1.32).
            held = from_numpy(np.asarray(value, order="C")) if isinstance(value, np.ndarray) else value
            binding.bind_ortvalue_input(name, held)
        for name in outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding, (by or self._never).options)
        return list(binding.copy_outputs_to_cpu())


def _one_picture(feed: Feed) -> Feed:
    """Return pictures `[1,3,H,W]` as the only one of them, `[3,H,W]`; on a device the picture is copied back for that.

    Raises:
        InputError: there are several pictures, or none.
    """
    array = np.asarray(feed if feed is None or isinstance(feed, np.ndarray) else feed.numpy())
    if array.ndim != 4:
        return feed
    if len(array) != 1:
        raise InputError(f"The model takes one picture at a time, without an axis of images, and not {len(array)}.")
    return array[0]


Arithmetic = Literal["default", "uint8 weights", "unoptimised"]
"""An Arithmetic says how products of 8-bit integers are computed: as ONNX Runtime does by default; with int8 weights
made uint8 when the model is loaded, since uint8 times uint8 is added up exactly on every processor; or, in a model that
is not optimised, in float between quantisers."""
Optimisation = Literal["disable", "basic", "extended", "all"]
"""An Optimisation says how far ONNX Runtime rewrites a model when it loads it."""
_UNKNOWN_OPERATOR = (
    re.compile(r"(?P<domain>[\w.]+):(?P<op>\w+)\(-?\d+\) is not a registered function/op"),
    re.compile(r'In Node, \(.*?, "(?P<domain>[\w.]*)", -?\d+\).*No Op registered for (?P<op>\w+) with domain_version'),
    re.compile(r"No opset import for domain '(?P<domain>[\w.]+)'.*OpType: (?P<op>\w+)"),
)
"""The messages of ONNX Runtime that say that it has no operator of a model."""
_SOURCE = re.compile(r"/\S+\.(?:cc|h):\d+ (?:.*? was false\. |\S.*?\) (?:\[ONNXRuntimeError\] : \d+ : \w+ : )?)")
"""The part of a message of ONNX Runtime, before what failed, that says where in its source code that was."""
_LEVELS = {"disable": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}


def open_session(
    model: Path | bytes,
    *,
    providers: str | Sequence[str] | None = None,
    threads: int | None = None,
    folder: Path | None = None,
    optimisation: Optimisation = "all",
    arithmetic: Arithmetic = "default",
) -> Session:
    """Load a model and return a session that runs it.

    Args:
        model: path of an .onnx file, or its bytes.
        providers: names of providers; see `resolve_providers`.
        threads: how many threads an operator may use (intra_op); None leaves it to ONNX Runtime. Operators run one
            after the other.
        folder: where the weights outside of the file lie, for a model given as bytes.
        optimisation: how far the model is rewritten; not at all by the arithmetic "unoptimised".
        arithmetic: how products of 8-bit integers are computed.

    Raises:
        DependencyError: ONNX Runtime is missing.
        ProviderError: a provider is missing or could not be started. Without `providers`, the CPU takes the place of a
            CUDA provider that cannot be started, and `Session.provider_warning` says so.
        ModelError: ONNX Runtime cannot load the model.
        InputError: `threads` is no number of threads.
    """
    if threads is not None:
        threads = whole("threads", threads, 1, InputError)
        if threads > _MOST_THREADS:
            raise InputError(f"threads is {threads}; it must be at most {_MOST_THREADS}.")
    ort = import_onnxruntime()
    chosen, named = resolve_providers(providers)
    source = model if isinstance(model, bytes) else str(model)
    options = _options(ort, threads, folder, "disable" if arithmetic == "unoptimised" else optimisation)
    if arithmetic == "uint8 weights":
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return _session(ort, source, chosen, options)
    except ProviderError as error:
        if named or chosen == (CPU,):
            raise
        note = f"CUDA could not be started, so the model runs on the CPU: {error}"
        return _session(ort, source, (CPU,), options, note)


def _session(
    ort: Any, source: bytes | str, providers: tuple[str, ...], options: Any, note: str | None = None
) -> Session:
    """Start a session, and refuse a model with names that are not UTF-8."""
    started = _start(ort, source, providers, options)
    try:
        return Session(started, note)
    except ValueError as error:  # names or metadata that are not UTF-8
        raise ModelError(f"The model is damaged: it holds names that are not text ({error}).") from error


def _options(ort: Any, threads: int | None, folder: Path | None, optimisation: Optimisation) -> Any:
    """Return the options of a session, an `onnxruntime.SessionOptions`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # ONNX Runtime keeps a plan of its memory for every combination of input shapes that it has seen. Without these
    # plans its arena is as fast, takes as much, and stays flat whatever sizes come: MobileNetV2 on 400 sizes grew by
    # 1.6 MB after the first 40, by 14 MB with plans, and by 66 MB without the arena, since malloc then fragments.
    options.enable_mem_pattern = False
    # Threads that wait busily take cores from the decoding, the drawing and the second run that go on at the same time.
    # Without busy waiting a stream of photos is faster and takes about half of the processor's time (docs/figures.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{_LEVELS[optimisation]}")
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return options


def _start(ort: Any, source: bytes | str, providers: tuple[str, ...], options: Any) -> Any:
    """Start an `onnxruntime.InferenceSession` on these providers.

    Raises:
        ModelError: ONNX Runtime cannot load the model.
        ProviderError: a provider could not be started.
    """
    # The CPU takes the operators that the others have no kernel for.
    wanted = providers if CPU in providers else (*providers, CPU)
    try:
        session = ort.InferenceSession(source, options, providers=[_with_options(name) for name in wanted])
    except _ort_errors() as error:
        name = "The model" if isinstance(source, bytes) else f"The model {source!r}"
        message = _sentence(error)
        for unknown in filter(None, (pattern.search(message) for pattern in _UNKNOWN_OPERATOR)):
            domain, op = unknown["domain"] or "", unknown["op"]
            domain = "" if domain == "ai.onnx" else domain
            raise ModelError(
                f"{name} cannot be loaded by ONNX Runtime {ort.__version__}: it has no operator {called(domain, op)}, "
                f"{origin(domain, op)}."
            ) from error
        raise ModelError(f"{name} cannot be loaded by ONNX Runtime {ort.__version__}: {message}") from error
    session.disable_fallback()  # otherwise a run that fails starts again on the CPU, and only a print says so
    check_running(providers, session.get_providers())
    return session


def _with_options(provider: str) -> str | tuple[str, dict[str, str]]:
    """Return the provider with its options; CUDA computes without TF32.

    TF32 keeps 10 bits of the mantissa of a product's factors. On an H200, the maps of EfficientNet-Lite0 differed from
    the CPU's by 1e-3 of their maximum at the last layer and by 5e-2 in the middle with TF32, and by 1e-6 without it
    (docs/figures.md).
    """
    return (CUDA, {"use_tf32": "0"}) if provider == CUDA else provider


@contextmanager
def _errors_of_run() -> Iterator[None]:
    """Turn what ONNX Runtime raises during a run into an InputError or a ModelError."""
    try:
        yield
    except MemoryError as error:
        raise ModelError("Memory ran out; try fewer images or classes at once.") from error
    except _ort_errors() as error:
        text = _sentence(error)
        # A feed that does not fit is refused before anything runs; a node that fails names itself.
        refused = type(error).__name__ == "InvalidArgument" and "running" not in text
        if refused or isinstance(error, ValueError):
            raise InputError(f"The feeds do not fit the model's inputs: {text}") from error
        if re.search(r"alloc|out of memory", text, re.IGNORECASE):
            raise ModelError(f"Memory ran out; try fewer images or classes at once: {text}") from error
        if reshape := _RESHAPE.search(text):
            name = f" '{reshape['name']}'" if reshape["name"] else ""
            raise ModelError(
                f"The model's Reshape{name} cannot make [{reshape['wanted']}] of [{reshape['given']}]: it is made for "
                "another size, or for groups of images, as models of crops or frames are, which are not supported."
            ) from error
        raise ModelError(f"ONNX Runtime failed while it ran the model: {text}") from error


_RESHAPE = re.compile(
    r"running Reshape node\. Name:'(?P<name>[^']*)'.*"
    r"Input shape:\{(?P<given>[\d,]*)\}, requested shape:\{(?P<wanted>[-\d,]*)\}"
)
"""The message of ONNX Runtime that says that a Reshape does not fit."""


def _ort_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that ONNX Runtime raises.

    Its own ones share no base class, and its Python code raises built-in ones.
    """
    state = import_onnxruntime().capi.onnxruntime_pybind11_state
    own = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*own, RuntimeError, ValueError)


def _sentence(error: BaseException) -> str:
    """Return the message of an ONNX Runtime error on one line, without error codes and places in its source."""
    text = re.sub(r"\s+", " ", str(error)).strip()
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return _SOURCE.sub("", text)


def _is_numeric(array: NDArray[Any] | None) -> bool:
    """Tell whether a feed is an array of numbers: neither None nor an array of texts or Python objects."""
    return array is not None and array.dtype.kind not in "OU"


def _info(node: Any) -> TensorInfo:
    """Return the TensorInfo of an input or output as ONNX Runtime describes it (a NodeArg)."""
    match = re.fullmatch(r"tensor\((\w+)\)", node.type)
    kind = match.group(1) if match else node.type
    dtype = _DTYPES.get(kind) if match else None
    return TensorInfo(node.name, tuple(node.shape), np.dtype(dtype) if dtype else None, kind)
