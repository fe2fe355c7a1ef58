"""Ordinary ways of running a model other than `session.run(None, ...)[0]`; what they print must not change either.

python tests/examples/drop_in/classify_otherwise.py WAY MODEL.onnx INPUT.npy
"""

import sys

import numpy as np


def session_of(model):
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def first_output(model, batch):
    session = session_of(model)
    return session.run([session.get_outputs()[0].name], {session.get_inputs()[0].name: batch})[0]


def by_name(model, batch):
    session = session_of(model)
    return session.run(["logits"], {"image": batch})[0]


def io_binding(model, batch):
    session = session_of(model)
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, batch)
    binding.bind_output(session.get_outputs()[0].name)
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0]


def io_binding_of_all(model, batch):
    import onnxruntime

    session = session_of(model)
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, onnxruntime.OrtValue.ortvalue_from_numpy(batch))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    session.run_with_iobinding(binding)
    return binding.get_outputs()[0].numpy()


def openvino(model, batch):
    import openvino

    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(batch)[0]


def opencv(model, batch):
    import cv2

    network = cv2.dnn.readNetFromONNX(model)
    network.setInput(batch)
    return network.forward("logits")


def reference(model, batch):
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    return evaluator.run(None, {evaluator.input_names[0]: batch})[0]


way, path, file = sys.argv[1:]
found = globals()[way](path, np.load(file))
print(found.shape, found.dtype, found.tobytes().hex())
