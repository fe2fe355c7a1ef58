"""An ordinary classifier script: photos in, the five likeliest classes of each out. It knows nothing of explanations.

python examples/drop_in/classify.py MODEL.onnx PHOTO...

Given an explained model in place of the original one it prints the same, byte by byte; that is what the test does.
"""

import sys

import cv2
import numpy as np
import onnxruntime

KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}

model, *photos = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
image = session.get_inputs()[0]
height, width = image.shape[2:]

pictures = [cv2.cvtColor(cv2.resize(cv2.imread(photo), (width, height)), cv2.COLOR_BGR2RGB) for photo in photos]
batch = ((np.stack(pictures).transpose(0, 3, 1, 2) - 127.0) / 128.0).astype(KINDS[image.type])

logits = session.run(None, {image.name: batch})[0]

exponentials = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
for photo, row in zip(photos, probabilities, strict=True):
    for number in np.argsort(-row)[:5]:
        print(photo, number, repr(float(row[number])))
