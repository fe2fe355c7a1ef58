"""Models that are made to hurt end in a result or in one clear error, soon, and in bounded memory.

They run in a process of its own, with a limit on its address space, so that a crash, a hang or gigabytes end that
process and fail a test. The limits of time are no measurements: what is wrong here takes hours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from helpers import ROOT
from helpers.hostile import HUGE_MODELS, MODELS
from onnx_xcam import inspect
from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.files.wire import MOST_RECORDS, _header

pytest.importorskip("resource", reason="limits on memory are POSIX's")


RUN = """
import faulthandler, json, resource, signal, sys, warnings
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
import onnx.reference
from helpers import hostile
from onnx_xcam import XcamError, inspect
from onnx_xcam.surgery import instrument_bytes

def ended(call):
    try:
        return "ok", len(call())
    except XcamError as error:
        return type(error).__name__, str(error)

faulthandler.register(signal.SIGPROF, chain=True)  # which then ends the process
for name in json.loads(sys.argv[1]):
    signal.setitimer(signal.ITIMER_PROF, float(sys.argv[2]))  # of the processor's time: others may be busy
    data = (hostile.MODELS | hostile.HUGE_MODELS)[name]().SerializeToString()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = [ended(lambda: inspect(data).text()), ended(lambda: instrument_bytes(data, emit=("map", "heatmap")))]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([name, *result, (peak - before) // (1024 if sys.platform == "linux" else 1 << 20)]), flush=True)
"""


def outcomes(names: list[str], seconds: float) -> dict[str, tuple]:
    """How each model ended: of `inspect` and of `instrument_bytes` ("ok" or the error's name, size or message), MiB."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", RUN, json.dumps(names), str(seconds)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = {line[0]: tuple(line[1:]) for line in map(json.loads, run.stdout.splitlines())}
    missing = [name for name in names if name not in found]
    assert not missing and run.returncode == 0, f"ended at {missing[:1]}: {run.stderr[-3000:]}"
    return found


@pytest.fixture(scope="module")
def ended() -> dict[str, tuple]:
    return outcomes(list(MODELS), 120)


REFUSED = {
    "recursive function": "calls itself",
    "function that calls itself in a branch": "calls itself",
    "function tower": "more than 500000 nodes",
    "deep functions": "cannot be inlined",
    "weights stated only": "'w2' of the model are damaged",
    "metadata that is deep": "nested too deeply",
    "stated labels that are deep": "nested too deeply",
    "deep preprocessing": "nested too deeply",
    "huge image": "more than any memory holds",
    "huge Resize": "more than any memory holds",
}
"""What `instrument` says."""
UNSUITED = {"long chain without a rule", "very many axes", "negative Resize", "very many positions", "many positions"}
UNSUITED |= {"very many parts", "many parts"}
"""May be refused, for want of a rule or a shape; behind a sequence that is not taken apart there is no layer."""


def test_no_name_stands_for_two_models():
    assert not MODELS.keys() & HUGE_MODELS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_ends_well(name, ended):
    inspected, instrumented, mebibytes = ended[name]
    assert mebibytes < 500
    assert inspected[0] in ("ok", "ModelError")
    if name in REFUSED:
        assert instrumented[0] != "ok" and REFUSED[name] in instrumented[1]
    elif name not in UNSUITED:
        assert instrumented[0] == "ok"
    for kind, said in (inspected, instrumented):
        assert kind == "ok" or ("\n" not in said and len(said) < 21_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGE_MODELS)
def test_huge_ones_end_well(name):
    inspected, instrumented, mebibytes = outcomes([name], 300)[name]
    assert mebibytes < 1500
    assert inspected[0] == "ok"
    assert instrumented[0] == ("UnsupportedOpError" if "rule" in name else "ok")


def test_a_graph_of_a_million_empty_nodes():
    """In two bytes each, a hundred when they are parsed."""
    body = b"\x0a\x00" * (MOST_RECORDS + 1) + b"\x62\x03\x0a\x01y"
    with pytest.raises(ModelError, match="GraphProto of more than"):
        inspect(_header(7, len(body)) + body)
