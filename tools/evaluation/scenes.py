"""Write synthetic scenes with their exact truth, for `onnx-xcam evaluate` with sample_models/tiny_detector.onnx.

    python -m tools.evaluation.scenes FOLDER --count 50
    onnx-xcam evaluate sample_models/tiny_detector.onnx FOLDER/scenes --truth FOLDER/objects.json

FOLDER/objects.json states of each object its class, its box, its mask and the box of the mark which alone decides its
class. FOLDER/boxes.json has the boxes of the objects and FOLDER/marks.json those of the marks, both in COCO's format,
and FOLDER/masks one mask for each object, `0007.2.png` of object 2 of scene 7. With --twins each scene has two objects
of the same pixels. The scenes are not those that the detector was trained on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tools.common import command_line
from tools.common.scenes import LABELS, Mask, Scene, random_scene, twins

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
                x0, y0, x1, y1 = edges(mask)
                box = [x0, y0, x1 - x0, y1 - y0]
                one = {"id": len(annotations), "image_id": number, "category_id": int(label), "bbox": box}
                annotations.append(one | {"area": int(mask.sum()), "iscrowd": 0})
    images = [
        {"id": number, "file_name": name, "height": scene.size[0], "width": scene.size[1]}
        for number, (scene, name) in enumerate(zip(scenes, names, strict=True))
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(LABELS)]
    return {"images": images, "annotations": annotations, "categories": categories}


def edges(mask: Mask) -> list[int]:
    """Return the left, upper, right and lower edge of what a mask [H,W] marks."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def objects(scenes: list[Scene], names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Return class, box, mask and mark of each object by scene, as `evaluate --truth` reads them."""
    return {
        name: [
            {"class": LABELS[label], "box": edges(mask), "mask": mask_file(name, number)}
            | ({"mark": edges(mark)} if mark.any() else {})
            for number, (label, mask, mark) in enumerate(zip(scene.labels, scene.masks, scene.marks, strict=True))
        ]
        for scene, name in zip(scenes, names, strict=True)
    }


def mask_file(name: str, number: int) -> str:
    """Return the path of an object's mask from the folder of objects.json."""
    return f"masks/{Path(name).stem}.{number}.png"


def twin_scene(rng: np.random.Generator) -> Scene:
    """Return a scene of two objects with the same pixels."""
    return twins(rng, int(rng.integers(len(LABELS))))[0]


def write(folder: Path, count: int, seed: int, *, of_twins: bool = False) -> None:
    """Write scenes, objects, boxes, marks and masks into a folder."""
    make = twin_scene if of_twins else random_scene
    scenes = [make(np.random.default_rng(seed + number)) for number in range(count)]
    names = [f"{number:04d}.png" for number in range(count)]
    for name in ("scenes", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for scene, name in zip(scenes, names, strict=True):
        cv2.imwrite(str(folder / "scenes" / name), scene.image_rgb[..., ::-1])
        for number, mask in enumerate(scene.masks):
            cv2.imwrite(str(folder / mask_file(name, number)), mask.astype(np.uint8) * 255)
    stated = json.dumps(objects(scenes, names), indent=1)
    (folder / "objects.json").write_text(f"{stated}\n", encoding="utf-8")
    for name, masks in {"boxes": [one.masks for one in scenes], "marks": [one.marks for one in scenes]}.items():
        text = json.dumps(coco(scenes, names, masks), indent=1)
        (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Parse the command line and write."""
    parser = command_line.parser("tools.evaluation.scenes", __doc__)
    parser.add_argument("folder", type=Path, help="folder to write to")
    parser.add_argument("--count", type=int, default=50, help="number of scenes (default: 50)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the first scene (default: {SEED})")
    parser.add_argument("--twins", action="store_true", help="two objects of the same pixels in each scene")
    options = parser.parse_args()
    write(options.folder, options.count, options.seed, of_twins=options.twins)
    print(f"written to {options.folder}: {options.count} scenes, objects.json, boxes.json, marks.json and masks")


if __name__ == "__main__":
    main()
