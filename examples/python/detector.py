"""Explain the objects of a detector with ONNX Runtime alone: no onnx_xcam, only the instrumented file.

onnx-xcam instrument sample_models/tiny_detector.onnx -o detector.onnx --emit map
python examples/python/detector.py detector.onnx sample_models/pictures/shapes.png --top 4
python examples/python/detector.py detector.onnx sample_models/pictures/shapes.png --point 46,24
"""

import argparse
import json

import cv2
import numpy as np
import onnxruntime

PADDING = 114
"""This grey value fills what a letterboxed photo leaves of the model's input, as the sample detector was trained."""


class Letterbox:
    """A Letterbox is a photo in its own proportions in the middle of the model's input, and the way back from there.

    Args:
        bgr: the photo, uint8 [H,W,3].
        height, width: those of the model's input.
    """

    def __init__(self, bgr: np.ndarray, height: int, width: int) -> None:
        self.scale = min(height / bgr.shape[0], width / bgr.shape[1])
        self.rows, self.columns = (max(round(side * self.scale), 1) for side in bgr.shape[:2])
        self.top, self.left = (height - self.rows) // 2, (width - self.columns) // 2
        canvas = np.full((height, width, 3), PADDING, np.uint8)
        small = cv2.resize(bgr, (self.columns, self.rows), interpolation=cv2.INTER_LINEAR)
        canvas[self.top : self.top + self.rows, self.left : self.left + self.columns] = small
        rgb = cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB)
        self.image = np.ascontiguousarray((rgb.astype(np.float32) / 255).transpose(2, 0, 1)[None])
        self.photo = bgr

    def box(self, box: np.ndarray) -> np.ndarray:
        """A box x1, y1, x2, y2 in pixels of the model's input as one of the photo."""
        return (box - np.array([self.left, self.top] * 2)) / self.scale

    def map(self, values: np.ndarray) -> np.ndarray:
        """A map on the model's input, float32 [h,w], as one of the photo, [H,W], scaled to 0..1."""
        height, width = self.image.shape[2:]
        large = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
        part = large[self.top : self.top + self.rows, self.left : self.left + self.columns]
        return cv2.resize(part, self.photo.shape[1::-1]) / max(float(part.max()), 1e-12)


def explain(session: onnxruntime.InferenceSession, photo: Letterbox, objects: list[int]) -> dict[str, np.ndarray]:
    """The outputs of the file by name: -1, -2, ... are the best objects, 0 and above a candidate."""
    names = [output.name for output in session.get_outputs()]
    feeds = {session.get_inputs()[0].name: photo.image, "xcam_object": np.array([objects], np.int64)}
    return dict(zip(names, session.run(names, feeds), strict=True))


def candidate_at(session: onnxruntime.InferenceSession, photo: Letterbox, x: float, y: float) -> int:
    """The candidate of the smallest of the 100 best objects whose box holds a point of the photo."""
    found = explain(session, photo, [-1 - rank for rank in range(100)])
    there = []
    for candidate, box in zip(found["xcam_objects"][0], found["xcam_boxes"][0], strict=True):
        x1, y1, x2, y2 = photo.box(box)
        if candidate >= 0 and x1 <= x <= x2 and y1 <= y <= y2:
            there.append(((x2 - x1) * (y2 - y1), int(candidate)))
    if not there:
        raise SystemExit(f"No object is kept at {x:g},{y:g}.")
    return min(there)[1]


def draw(photo: Letterbox, box: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The photo with a map and a box over it, BGR."""
    colours = cv2.applyColorMap((values.clip(0, 1) * 255).round().astype(np.uint8), cv2.COLORMAP_TURBO)
    drawn = cv2.addWeighted(photo.photo, 0.5, colours, 0.5, 0)
    x1, y1, x2, y2 = box.round().astype(int).tolist()
    return cv2.rectangle(drawn, (x1, y1), (x2, y2), (255, 255, 255), 1)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Explain the objects of a detector.")
    parser.add_argument("model", help='made with emit=("map",)')
    parser.add_argument("photo")
    parser.add_argument("--top", type=int, default=1, help="the best objects (default: 1)")
    parser.add_argument("--point", help="X,Y: the object at this point of the photo instead")
    parser.add_argument("-o", "--out", default="object", help="start of the pictures' names (default: object)")
    options = parser.parse_args()
    bgr = cv2.imread(options.photo)
    if bgr is None:
        raise SystemExit(f"{options.photo} is not a picture that OpenCV can read.")
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3  # it warns of inputs with a default value, which are meant
    session = onnxruntime.InferenceSession(options.model, quiet, providers=["CPUExecutionProvider"])
    photo = Letterbox(bgr, *session.get_inputs()[0].shape[2:])
    objects = [-1 - rank for rank in range(options.top)]
    if options.point:
        objects = [candidate_at(session, photo, *map(float, options.point.split(",")))]
    found = {name: values[0] for name, values in explain(session, photo, objects).items()}
    for k, candidate in enumerate(found["xcam_objects"].tolist()):
        if candidate < 0:  # the photo has no further object
            break
        box, file = photo.box(found["xcam_boxes"][k]), f"{options.out}.{candidate}.png"
        cv2.imwrite(file, draw(photo, box, photo.map(found["xcam_map"][k])))
        told = {"class": int(found["xcam_classes"][k]), "p": round(float(found["xcam_probabilities"][k]), 3)}
        print(json.dumps({"candidate": candidate, **told, "box": box.round(1).tolist(), "picture": file}))


if __name__ == "__main__":
    main()
