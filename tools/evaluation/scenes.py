"""Write synthetic scenes with their exact truth, for `onnx-xcam evaluate` with sample_models/tiny_detector.onnx.

    python -m tools.evaluation.scenes FOLDER --count 50
    onnx-xcam evaluate sample_models/tiny_detector.onnx FOLDER/scenes --truth FOLDER/boxes.json

FOLDER/boxes.json has the box of each object and FOLDER/marks.json that of the mark which alone decides its class, both
in COCO's format, and FOLDER/masks one mask for each object, `0007.2.png` of object 2 of scene 7. The scenes are not
those that the detector was trained on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tools.common import command_line
from tools.common.scenes import LABELS, Mask, Scene, random_scene

SEED = 7000


def coco(scenes: list[Scene], names: list[str], masks: list[Mask]) -> dict[str, Any]:
    """Return the boxes of what masks mark, in COCO's format; a mask without a pixel is left out.

    Args:
        scenes: the scenes.
        names: the names of their files.
        masks: for each scene the masks of its objects, [n,H,W].
    """
    annotations: list[dict[str, Any]] = []
    for number, (scene, of_scene) in enumerate(zip(scenes, masks, strict=True)):
        for label, mask in zip(scene.labels, of_scene, strict=True):
            if mask.any():
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                x, y = int(columns[0]), int(rows[0])
                box = [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
                one = {"id": len(annotations), "image_id": number, "category_id": int(label), "bbox": box}
                annotations.append(one | {"area": int(mask.sum()), "iscrowd": 0})
    images = [
        {"id": number, "file_name": name, "height": scene.size[0], "width": scene.size[1]}
        for number, (scene, name) in enumerate(zip(scenes, names, strict=True))
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(LABELS)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(folder: Path, count: int, seed: int) -> None:
    """Write scenes, boxes, marks and masks into a folder."""
    scenes = [random_scene(np.random.default_rng(seed + number)) for number in range(count)]
    names = [f"{number:04d}.png" for number in range(count)]
    for name in ("scenes", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for scene, name in zip(scenes, names, strict=True):
        cv2.imwrite(str(folder / "scenes" / name), scene.image_rgb[..., ::-1])
        for number, mask in enumerate(scene.masks):
            cv2.imwrite(str(folder / "masks" / f"{Path(name).stem}.{number}.png"), mask.astype(np.uint8) * 255)
    for name, masks in {"boxes": [one.masks for one in scenes], "marks": [one.marks for one in scenes]}.items():
        text = json.dumps(coco(scenes, names, masks), indent=1)
        (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Parse the command line and write."""
    parser = command_line.parser("tools.evaluation.scenes", __doc__)
    parser.add_argument("folder", type=Path, help="folder to write to")
    parser.add_argument("--count", type=int, default=50, help="number of scenes (default: 50)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the first scene (default: {SEED})")
    options = parser.parse_args()
    write(options.folder, options.count, options.seed)
    print(f"written to {options.folder}: {options.count} scenes, boxes.json, marks.json and masks")


if __name__ == "__main__":
    main()
