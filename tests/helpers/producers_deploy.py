"""What measures preprocessing of deployment tools against their own code, each from the settings that a tool writes."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from helpers.producers import Measure, library, photos, save_classifier, worst_difference

Tensor = NDArray[np.generic]

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def measured(file: Path, own: Callable[[NDArray[np.uint8]], Tensor]) -> float:
    """Return the largest difference of what a model beside a file is fed of the photos, from a producer's tensors.

    Args:
        file: a producer's file, which an Explainer of the model finds by itself.
        own: returns the producer's tensor [C,H,W] of an RGB photo.
    """
    theirs = [own(photo) for photo in photos()]
    return worst_difference(save_classifier(file.with_name("model.onnx"), (1, *theirs[0].shape)), theirs)


def single_file(package: str, path: str, instead: Mapping[str, Any]) -> ModuleType:
    """Return one module of a package, read without the package around it, which needs Paddle.

    Args:
        package: the package.
        path: the module's file in the folder of the package.
        instead: what stands in the place of the modules that it imports, by their names.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return library(package)  # skips, or fails where the libraries are demanded
    name = f"{package}_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, Path(found.submodule_search_locations[0]) / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for other, stand_in in {**instead, name: module}.items():
            patch.setitem(sys.modules, other, stand_in)
        spec.loader.exec_module(module)
    return module


def paddle_file(name: str) -> ModuleType:
    """Return one module of PaddleClas' `deploy/python`.

    What it imports for other operators than those used here (Paddle's own transforms) is empty.
    """
    absent = ["paddle", "paddle.vision", "paddle.vision.transforms", "paddleclas", "paddleclas.deploy"]
    absent += ["paddleclas.deploy.python", "paddleclas.deploy.python.det_preprocess"]
    return single_file("paddleclas", f"deploy/python/{name}.py", {other: MagicMock() for other in absent})


def paddle_segmenter(*transforms: Mapping[str, Any]) -> Measure:
    """Return the measure of a `deploy.yaml` with these transforms, against PaddleSeg's own."""

    def measure(folder: Path) -> float:
        scipy = {name: MagicMock() for name in ("scipy", "scipy.ndimage")}  # for edges of labels
        functional = single_file("paddleseg", "transforms/functional.py", scipy)
        manager = MagicMock()
        manager.TRANSFORMS.add_component = lambda component: component
        instead = {
            "paddleseg": MagicMock(),
            "paddleseg.cvlibs": MagicMock(manager=manager),
            "paddleseg.transforms": MagicMock(functional=functional),
            "paddleseg.utils": MagicMock(),
        }
        own = single_file("paddleseg", "transforms/transforms.py", instead)
        file = folder / "deploy.yaml"
        file.write_text(
            yaml.safe_dump({"Deploy": {"model": "model.pdmodel", "transforms": [dict(t) for t in transforms]}})
        )
        chain = [
            getattr(own, step["type"])(**{key: value for key, value in step.items() if key != "type"})
            for step in transforms
        ]

        def tensor(photo: NDArray[np.uint8]) -> Tensor:
            return own.Compose(chain)({"img": np.ascontiguousarray(photo[..., ::-1]).astype(np.float32)})["img"]

        return measured(file, tensor)

    return measure


def paddle_classifier(*operators: Mapping[str, Any]) -> Measure:
    """Return the measure of an `inference.yml` with these operators, against PaddleClas' own."""

    def measure(folder: Path) -> float:
        own = paddle_file("preprocess")
        file = folder / "inference.yml"
        file.write_text(yaml.safe_dump({"PreProcess": {"transform_ops": [*operators, {"ToCHWImage": None}]}}))
        chain = [
            getattr(own, name)(**(parameters or {}))
            for operator in [*operators, {"ToCHWImage": None}]
            for name, parameters in operator.items()
        ]

        def tensor(photo: NDArray[np.uint8]) -> Tensor:
            value: Any = photo
            for step in chain:
                value = step(value)
            return value

        return measured(file, tensor)

    return measure


def paddle_detector(*operators: Mapping[str, Any]) -> Measure:
    """Return the measure of an `infer_cfg.yml` with these operators, against those that PaddleClas has of them."""

    def measure(folder: Path) -> float:
        own = paddle_file("det_preprocess")
        file = folder / "infer_cfg.yml"
        file.write_text(yaml.safe_dump({"mode": "paddle", "arch": "YOLO", "Preprocess": [dict(o) for o in operators]}))
        chain = [
            getattr(own, f"Det{operator['type']}")(**{key: value for key, value in operator.items() if key != "type"})
            for operator in operators
        ]

        def tensor(photo: NDArray[np.uint8]) -> Tensor:
            value, facts = photo, {"input_shape": [3, 0, 0]}
            for step in chain:
                value, facts = step(value, facts)
            return value

        return measured(file, tensor)

    return measure


def mmdeploy_detector(pipeline: Sequence[Mapping[str, Any]], preprocessor: Mapping[str, Any], size: int) -> Measure:
    """Return the measure of the `pipeline.json` of a pipeline of MMDetection whose padding gives a square of a size.

    The file is written as `ObjectDetection.get_preprocess` of MMDeploy does, which needs MMCV's compiled operators.
    """

    def measure(folder: Path) -> float:
        wrappers = library("mmcv.transforms")
        normal = {key: preprocessor[key] for key in ("mean", "std")} | {"to_rgb": preprocessor["bgr_to_rgb"]}
        exported = [
            {"type": "LoadImageFromFile"},
            *({"size" if key == "scale" else key: value for key, value in step.items()} for step in pipeline),
            {"type": "Normalize", **normal},
            {"type": "Pad", "size_divisor": preprocessor["pad_size_divisor"]},
            {"type": "DefaultFormatBundle"},
            {"type": "Collect", "keys": ["img"]},
        ]
        file = _pipeline_file(folder, exported)
        chain = [
            getattr(wrappers, step["type"])(**{key: value for key, value in step.items() if key != "type"})
            for step in pipeline
        ]

        def tensor(photo: NDArray[np.uint8]) -> Tensor:
            results: Any = {"img": np.ascontiguousarray(photo[..., ::-1]), "img_shape": photo.shape[:2]}
            for step in chain:
                results = step(results)
            image = results["img"][..., ::-1] if preprocessor["bgr_to_rgb"] else results["img"]
            values = (image.astype(np.float32) - preprocessor["mean"]) / preprocessor["std"]
            padded = np.zeros((size, size, 3), np.float32)
            padded[: values.shape[0], : values.shape[1]] = values
            return padded.transpose(2, 0, 1)

        return measured(file, tensor)

    return measure


def _pipeline_file(folder: Path, transforms: Sequence[Mapping[str, Any]]) -> Path:
    """Write the `pipeline.json` of a task that transforms pictures, and return its path."""
    file = folder / "pipeline.json"
    task = {"type": "Task", "module": "Transform", "name": "Preprocess", "transforms": transforms}
    file.write_text(json.dumps({"pipeline": {"input": ["img"], "output": ["post_output"], "tasks": [task]}}))
    return file


def mmdeploy_classifier(pipeline: Sequence[Mapping[str, Any]], preprocessor: Mapping[str, Any]) -> Measure:
    """Return the measure of the `pipeline.json` that MMDeploy makes of a pipeline of MMPretrain, against MMPretrain."""

    def measure(folder: Path) -> float:
        library("mmpretrain.utils.dependency").WITH_MULTIMODAL = False  # its language models are for transformers 4
        config = library("mmengine").Config
        transforms = library("mmpretrain.datasets.transforms")
        wrappers = library("mmcv.transforms")
        models = library("mmpretrain.models.utils.data_preprocessor")
        task = library("mmdeploy.codebase.mmpretrain.deploy.classification").Classification
        steps = [{"type": "LoadImageFromFile"}, *(dict(step) for step in pipeline), {"type": "PackInputs"}]
        deploy = {
            "onnx_config": {"type": "onnx", "input_shape": None},
            "codebase_config": {"type": "mmpretrain", "task": "Classification"},
            "backend_config": {"type": "onnxruntime"},
        }
        model = {"model": {"type": "ImageClassifier"}, "data_preprocessor": dict(preprocessor), "test_pipeline": steps}
        file = _pipeline_file(folder, task(config(model), config(deploy), "cpu").get_preprocess())
        chain = [
            (getattr(transforms, step["type"], None) or getattr(wrappers, step["type"]))(
                **{key: value for key, value in step.items() if key != "type"}
            )
            for step in pipeline
        ]
        packed = models.ClsDataPreprocessor(**preprocessor)
        torch = library("torch")

        def tensor(photo: NDArray[np.uint8]) -> Tensor:
            results: Any = {"img": np.ascontiguousarray(photo[..., ::-1]), "img_shape": photo.shape[:2]}
            for step in chain:
                results = step(results)
            image = torch.from_numpy(np.ascontiguousarray(results["img"].transpose(2, 0, 1)))
            return packed({"inputs": [image]})["inputs"][0].numpy()

        return measured(file, tensor)

    return measure


def roboflow_package(**network: Any) -> Measure:
    """Return the measure of the `inference_config.json` of a network's input, against Roboflow's inference_models."""

    def measure(folder: Path) -> float:
        packages = library("inference_models.models.common.roboflow.model_packages")
        applied = library("inference_models.models.common.roboflow.pre_processing")
        torch = library("torch")
        stated = {
            "training_input_size": {"height": 192, "width": 256},
            "dynamic_spatial_size_supported": False,
            "color_mode": "rgb",
            "input_channels": 3,
        } | network
        file = folder / "inference_config.json"
        file.write_text(json.dumps({"image_pre_processing": None, "network_input": stated}))
        config = packages.InferenceConfig.model_validate_json(file.read_text())

        def tensor(photo: NDArray[np.uint8]) -> Tensor:
            made, _ = applied.pre_process_network_input(
                np.ascontiguousarray(photo[..., ::-1]),
                config.image_pre_processing,
                config.network_input,
                torch.device("cpu"),
            )
            return made[0].float().numpy()

        return measured(file, tensor)

    return measure
