"""Providers and sessions, on the real ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from helpers import ROOT, tiny_models
from onnx_xcam.errors import DependencyError, InputError, ModelError, ProviderError
from onnx_xcam.runtime import available_providers, open_session, resolve_providers, short_name
from onnx_xcam.runtime.providers import check_running

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
IMAGE = np.random.default_rng(5).normal(size=(2, 3, 16, 16)).astype(np.float32)

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

needs_cuda = pytest.mark.skipif(CUDA not in ort.get_available_providers(), reason="NOT TESTED: no CUDA in ONNX Runtime")


@pytest.fixture(scope="module")
def session():
    return open_session(tiny_models.by_hand().SerializeToString(), providers="cpu", threads=1)


@pytest.mark.parametrize("name", ["cpu", "CPU", "Cpu", CPU, CPU.lower(), "CPU_Execution_Provider"])
def test_a_provider_may_be_written_in_any_case_with_or_without_its_ending(name):
    assert resolve_providers(name) == ((CPU,), True)


def test_providers_keep_their_order_and_come_once():
    names = [short_name(name) for name in available_providers()]
    assert resolve_providers([*names, "cpu"])[0] == available_providers()


def test_without_a_wish_cuda_is_taken_where_it_is_there():
    expected = CUDA if CUDA in ort.get_available_providers() else CPU
    assert resolve_providers(None) == ((expected,), False)
    assert resolve_providers([]) == ((expected,), False)


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="CUDA is there")
def test_asking_for_cuda_where_it_is_not_says_what_is_there_and_which_extra_mends_it():
    with pytest.raises(ProviderError, match=r"no provider 'cuda'.*It has: .*cpu.*onnx-xcam\[gpu\]"):
        open_session(tiny_models.by_hand().SerializeToString(), providers=["cuda", "cpu"])


def test_an_unknown_provider_is_an_error_that_lists_what_there_is():
    with pytest.raises(ProviderError, match=r"no provider 'abacus'\. It has: .*cpu"):
        resolve_providers("abacus")


@pytest.mark.parametrize(
    ("asked", "running"),
    [
        ((CUDA,), (CPU,)),
        (("TensorrtExecutionProvider", CUDA), (CUDA, CPU)),
        ((CPU, CUDA), (CPU,)),
        ((CUDA,), ()),
        ((CPU,), (CUDA, CPU)),  # it is there, but another one goes before it
    ],
)
def test_a_session_that_runs_on_something_else_is_an_error(asked, running):
    with pytest.raises(ProviderError, match="could not be started"):
        check_running(asked, running)


@pytest.mark.parametrize("asked", [(CPU,), (CUDA,), (CUDA, CPU)])
def test_a_session_that_runs_on_what_was_asked_for_is_fine(asked):
    check_running(asked, (*asked, CPU))


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="here CUDA can be started")
@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider':UserWarning")
def test_cuda_that_cannot_be_started_is_an_error_if_asked_for_and_else_the_cpu_with_a_word(monkeypatch):
    model = tiny_models.by_hand().SerializeToString()
    monkeypatch.setattr("onnx_xcam.runtime.session.resolve_providers", lambda _: ((CUDA,), True))
    with pytest.raises(ProviderError, match=r"'cuda' is installed but could not be started.*run on cpu"):
        open_session(model)
    monkeypatch.setattr("onnx_xcam.runtime.session.resolve_providers", lambda _: ((CUDA,), False))
    session = open_session(model)
    assert session.providers == (CPU,)
    assert session.provider_warning.startswith("CUDA could not be started, so the model runs on the CPU: ")


def test_the_session_knows_inputs_outputs_metadata_and_provider(session):
    assert [(i.name, i.shape, i.dtype) for i in session.inputs] == [("image", ("N", 3, 16, 16), np.float32)]
    assert [(i.name, i.shape, i.dtype) for i in session.optional_inputs] == [("xcam_class", ("M", "K"), np.int64)]
    assert [o.name for o in session.outputs] == ["logits", "xcam_classes", "xcam_scores", "xcam_map"]
    assert '"score": "logits"' in session.metadata["onnx_xcam"]
    assert session.providers == (CPU,)
    assert session.provider_warning is None


def test_run_gives_the_named_outputs_and_the_optional_input_can_be_fed(session):
    default = session.run({"image": IMAGE}, ["xcam_classes", "logits"])
    assert list(default) == ["xcam_classes", "logits"]
    np.testing.assert_array_equal(default["xcam_classes"][:, 0], default["logits"].argmax(1))
    fed = session.run({"image": IMAGE, "xcam_class": np.array([[4, -5]])}, ["xcam_classes"])["xcam_classes"]
    np.testing.assert_array_equal(fed, np.stack([[4, 4], default["logits"].argmin(1)], axis=1))


def test_io_binding_gives_what_a_plain_run_gives(session):
    feeds = {"image": IMAGE, "xcam_class": np.array([[0, -1]])}
    names = ["xcam_map", "xcam_scores"]
    for plain, bound in zip(session._run_plain(feeds, names), session._run_bound(feeds, names), strict=True):
        np.testing.assert_array_equal(plain, bound)


def test_a_session_may_run_in_several_threads(session):
    images = [np.full((1, 3, 16, 16), i, np.float32) for i in range(8)]
    alone = [session.run({"image": image}, ["xcam_map"])["xcam_map"] for image in images]
    found: list[np.ndarray | None] = [None] * len(images)

    def work(i: int) -> None:
        for _ in range(20):
            found[i] = session.run({"image": images[i]}, ["xcam_map"])["xcam_map"]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.stack(alone), np.stack(found))


@pytest.mark.parametrize(
    "feeds",
    [{}, {"image": IMAGE[:, :2]}, {"image": IMAGE.astype(np.float64)}, {"image": IMAGE, "nonsense": IMAGE}],
    ids=["missing", "shape", "dtype", "unknown"],
)
def test_a_feed_that_does_not_fit_is_an_input_error(session, feeds):
    with pytest.raises(InputError, match="do not fit"):
        session.run(feeds, ["logits"])


def test_a_node_that_fails_is_a_model_error_that_names_it(session):
    with pytest.raises(ModelError, match=r"while it ran the model.*Gather node"):
        session.run({"image": IMAGE, "xcam_class": np.array([[99]])}, ["xcam_classes", "xcam_scores"])


def test_what_is_no_model_is_a_model_error_without_codes(tmp_path: Path):
    path = tmp_path / "page.onnx"
    path.write_text("<html>not found</html>", encoding="utf-8")
    with pytest.raises(ModelError, match=r"page\.onnx.*cannot be loaded") as caught:
        open_session(path, providers="cpu")
    assert "[ONNXRuntimeError]" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_outside_of_the_file_are_found_for_a_model_given_as_bytes(tmp_path: Path, monkeypatch):
    model = tiny_models.by_hand()
    expected = open_session(model.SerializeToString(), providers="cpu").run({"image": IMAGE}, ["xcam_map"])["xcam_map"]
    convert_model_to_external_data(model, location="weights.bin", size_threshold=64)
    onnx.save(model, tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path.parent)
    opened = open_session((tmp_path / "model.onnx").read_bytes(), providers="cpu", folder=tmp_path)
    np.testing.assert_array_equal(opened.run({"image": IMAGE}, ["xcam_map"])["xcam_map"], expected)


def test_loading_and_running_print_nothing_and_what_fails_is_raised_and_not_printed_as_well(tmp_path: Path):
    path = tmp_path / "model.onnx"
    onnx.save(tiny_models.by_hand(), path)
    program = (
        "import sys, numpy as np; from onnx_xcam.runtime import open_session; from onnx_xcam.errors import XcamError\n"
        f"s = open_session({str(path)!r}, providers='cpu')\n"
        "x = np.zeros((1,3,16,16), np.float32)\n"
        "s.run({'image': x}, ['xcam_map'])\n"
        "try: s.run({'image': x, 'xcam_class': np.array([[99]])}, ['xcam_scores'])\n"
        "except XcamError: print('raised')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("raised\n", "")


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_below_one_are_refused(threads):
    with pytest.raises(InputError, match="at least 1"):
        open_session(b"", threads=threads)


def test_without_onnxruntime_the_error_says_what_to_install():
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from onnx_xcam.errors import DependencyError; from onnx_xcam.runtime import open_session\n"
        "try: open_session(b'')\n"
        "except DependencyError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert "onnx-xcam[cpu]" in done.stdout
    assert "onnx-xcam[gpu]" in done.stdout
    assert issubclass(DependencyError, Exception)


@pytest.mark.gpu
@needs_cuda
def test_cuda_gives_what_the_cpu_gives(session):
    on_gpu = open_session(tiny_models.by_hand().SerializeToString(), providers="cuda")
    assert on_gpu.providers[0] == CUDA
    feeds = {"image": IMAGE, "xcam_class": np.array([[0, -1]])}
    held = {**feeds, "image": on_gpu.hold(IMAGE)}
    expected = session.run(feeds, ["xcam_map", "xcam_scores"])
    for found in (on_gpu.run(feeds, list(expected)), on_gpu.run(held, list(expected))):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=2e-3, atol=1e-4)


@pytest.mark.gpu
@needs_cuda
def test_without_a_wish_the_session_runs_on_cuda():
    assert open_session(tiny_models.by_hand().SerializeToString()).providers[0] == CUDA
