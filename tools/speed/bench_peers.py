"""Each other tool explains the model as its own documentation has it used, on the same weights and images.

Needs torch; a peer that is not installed is left out, with the reason.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from onnx_xcam import contract
from onnx_xcam.metadata import Metadata
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.normalise.normalise import normalised
from onnx_xcam.surgery.submodels.behind_layer import bypassing_tensors, model_behind
from onnx_xcam.surgery.submodels.more_outputs import with_outputs
from onnx_xcam.surgery.targets.classification import find_score
from tools.common.matching import Match, matches
from tools.common.sessions import session
from tools.speed.bench_formulas import grad_cam, lined, plain_xgrad, relu_of, scaled

Maps = Callable[[np.ndarray], np.ndarray]
"""From classes int64 [N,K] to maps [N,K,h,w], for the images that the peer was made with."""


@dataclass(frozen=True)
class Peer:
    """A tool at work.

    Attributes:
        maps: explains.
        expected: what its maps must be, from A [N,C,S], G [N,K,C,S] and the grid's (h, w).
    """

    maps: Maps
    expected: Callable[[np.ndarray, np.ndarray, tuple[int, int]], np.ndarray]


class UnusableError(Exception):
    """A peer that cannot do it, with the reason."""


@dataclass(frozen=True)
class Target:
    """The layer in torch.

    Attributes:
        model: the module.
        module: the name of the submodule whose output is the layer.
        match: how that output lies in the layer.
        layout, grid: of the layer; see `contract`.
    """

    model: nn.Module
    module: str
    match: Match
    layout: str
    grid: contract.Grid | None

    @property
    def is_nchw(self) -> bool:
        """Whether the module's output is [N,C,H,W] as it is."""
        return self.layout == "NCHW" and self.match.axes == (0, 1, 2, 3)

    def to_nchw(self, values: torch.Tensor) -> torch.Tensor:
        """The module's output, or a gradient of it, as [N,C,h,w]: what the peers call a reshape transform."""
        layer = values.permute(self.match.axes).reshape(-1, *self.match.shape[1:])
        layout = contract.images_first(self.layout)  # type: ignore[arg-type]
        if self.grid is None:
            return layer.permute([layout.find(axis) for axis in "NCHW"])
        tokens = layer.permute([layout.find(axis) for axis in "NCT"])[..., self.grid.tokens]
        height, width = self.grid.height, self.grid.width
        assert height and width
        return tokens.reshape(*tokens.shape[:2], height, width)

    def fresh(self) -> tuple[nn.Module, nn.Module]:
        """A copy of the model for one peer's hooks, its weights shared with the others; and its target module."""
        shared = {id(value): value for value in (*self.model.parameters(), *self.model.buffers())}
        model = copy.deepcopy(self.model, shared)
        return model, model.get_submodule(self.module)


def find_module(model: nn.Module, images: np.ndarray, layers: Mapping[str, np.ndarray]) -> tuple[str, str, Match]:
    """The first of the layers that is the output of a module: its name, that of the outermost such module, the match.

    Where there is no such module, activations in place are switched off in the model, as whoever wants to hook what
    lies before one has to.

    Args:
        layers: what the layers hold for the images, by name.

    Raises:
        UnusableError: no module gives any of these tensors, so that there is nothing to hook.
    """
    in_place = [module for module in model.modules() if getattr(module, "inplace", False)]
    for layer, activations in layers.items():
        for on in (True, False):
            for module in in_place:
                module.inplace = on  # type: ignore[assignment]
            once = _outputs(model, images)
            if found := matches([output.numpy() for _, output in once], activations):
                return layer, once[found[-1].index][0], found[-1]
    raise UnusableError("no module gives this tensor, so there is nothing to hook")


def _outputs(model: nn.Module, images: np.ndarray) -> list[tuple[str, torch.Tensor]]:
    """The outputs of the modules that are called once, by name, the inner modules first.

    They are looked at after the whole pass, as the peers keep them: a ReLU in place changes them later on.
    """
    outputs: list[tuple[str, torch.Tensor]] = []

    def keep(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            outputs.append((name, output))

    hooks = [module.register_forward_hook(functools.partial(keep, name)) for name, module in model.named_modules()]
    with torch.no_grad():
        model(torch.from_numpy(images))
    for hook in hooks:
        hook.remove()
    calls = [name for name, _ in outputs]
    return [(name, output) for name, output in outputs if name and calls.count(name) == 1]


# --- the peers --------------------------------------------------------------------------------------------------------


def captum_grad_cam(target: Target, images: np.ndarray) -> Peer:
    """captum's LayerGradCam: the gradient is taken at the layer alone; a whole pass for each class."""
    from captum.attr import LayerGradCam

    if not target.is_nchw:
        raise UnusableError(
            "LayerGradCam averages over all axes from the third on: not made for tokens or channels last"
        )
    model, module = target.fresh()
    explainer = LayerGradCam(model, module)
    batch = torch.from_numpy(images)

    def maps(classes: np.ndarray) -> np.ndarray:
        found = [explainer.attribute(batch, column.tolist(), relu_attributions=True) for column in classes.T]
        return torch.cat(found, 1).detach().numpy()

    return Peer(maps, relu_of(grad_cam))


def torchcam_xgrad(target: Target, images: np.ndarray) -> Peer:
    """torchcam's XGradCAM: one forward pass, and a backward pass to the layer for each class."""
    from torchcam.methods import XGradCAM

    model, module = target.fresh()
    transform = {} if target.is_nchw else {"reshape_transform": target.to_nchw}
    extractor = XGradCAM(model, module, **transform)
    batch = torch.from_numpy(images)

    def maps(classes: np.ndarray) -> np.ndarray:
        scores = model(batch)
        last = classes.shape[1] - 1
        found = [extractor(c.tolist(), scores, retain_graph=k < last)[0] for k, c in enumerate(classes.T)]
        return torch.stack(found, 1).numpy()

    return Peer(maps, lambda *arguments: scaled(np.maximum(plain_xgrad(*arguments), 0)))


def pytorch_grad_cam(method: str, target: Target, images: np.ndarray) -> Peer:
    """pytorch-grad-cam's XGradCAM or GradCAM: a forward and a whole backward pass for each class, the maps resized."""
    import pytorch_grad_cam as package
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, module = target.fresh()
    transform = None if target.is_nchw else target.to_nchw
    cam = getattr(package, method)(model=model, target_layers=[module], reshape_transform=transform)
    batch = torch.from_numpy(images)

    def maps(classes: np.ndarray) -> np.ndarray:
        columns = [[ClassifierOutputTarget(int(number)) for number in column] for column in classes.T]
        return np.stack([cam(input_tensor=batch, targets=targets) for targets in columns], 1)

    formula = plain_xgrad if method == "XGradCAM" else grad_cam

    def expected(*arguments: Any) -> np.ndarray:
        cams = np.maximum(formula(*arguments), 0).astype(np.float32)
        size = images.shape[:1:-1]
        return np.stack([scale_cam_image(scale_cam_image(one, size)) for one in cams.transpose(1, 0, 2, 3)], 1)

    return Peer(maps, expected)


def onnx_ad_xgrad(model: str, metadata: Metadata, *, threads: int, images: np.ndarray) -> Peer:
    """onnx-ad: the model with the layer as an output, the adjoint of the part behind it for all classes, then numpy.

    It takes gradients by graph inputs, so the part behind the layer is cut off (by our own means: that, too, is up to
    its user), with the batch size fixed, as it wants it.
    """
    from onnx_ad import UnsupportedOperator, reverse

    layer, layout, grid = metadata.layers[0], metadata.layout(0), metadata.grid(0)
    if layout == "TNC":
        raise UnusableError("not tried on tokens that come before the images")
    source, skeleton, _ = normalised(Source(model))
    graph = prepare(skeleton)
    score = find_score(graph).name
    others = bypassing_tensors(graph, layer, score)
    whole = session(with_outputs(source.with_tail(b""), dict.fromkeys([layer, *others, score])), threads)
    name = whole.get_inputs()[0].name
    values = dict(zip([layer, *others, score], whole.run([layer, *others, score], {name: images}), strict=True))
    weights = {tensor.name: tensor for tensor in source.load().graph.initializer}
    behind = model_behind(graph, weights, layer, score)
    # All that comes from the picture passes through the layer, so the others are constants for this batch size.
    behind.graph.initializer.extend(onnx.numpy_helper.from_array(values[other], other) for other in others)
    kept = [value for value in behind.graph.input if value.name == layer]
    del behind.graph.input[:]
    behind.graph.input.extend(kept)
    for value in (*behind.graph.input, *behind.graph.output):
        _fix_shape(value, values[value.name].shape)
    classes = values[score].shape
    try:
        adjoint = reverse(
            onnx.shape_inference.infer_shapes(behind, data_prop=True), inputs=[layer], outputs=[score], layout="onnx"
        )
        made = session(adjoint.SerializeToString(), threads)
    except (UnsupportedOperator, ValueError, KeyError, ort.capi.onnxruntime_pybind11_state.Fail) as error:
        raise UnusableError(f"onnx-ad: {type(error).__name__}: {str(error)[:200]}") from error
    (seeds,) = (value.name for value in made.get_inputs() if value.name != layer)
    gradient = made.get_outputs()[-1].name
    plain = session(with_outputs(source.with_tail(b""), [layer]), threads)

    def maps(chosen: np.ndarray) -> np.ndarray:
        (found,) = plain.run([layer], {name: images})
        seed = np.zeros((*classes, chosen.shape[1]), np.float32)
        np.put_along_axis(seed, chosen[:, None, :], 1.0, axis=1)
        (g,) = made.run([gradient], {layer: found, seeds: seed})
        return np.maximum(plain_xgrad(*lined(found, np.moveaxis(g, -1, 1), layout, grid)), 0)

    return Peer(maps, relu_of(plain_xgrad))


def _fix_shape(value: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    del value.type.tensor_type.shape.dim[:]
    for length in shape:
        value.type.tensor_type.shape.dim.add().dim_value = length


TORCH_PEERS: Mapping[str, Callable[[Target, np.ndarray], Peer]] = {
    "captum LayerGradCam": captum_grad_cam,
    "torchcam XGradCAM": torchcam_xgrad,
    "pytorch-grad-cam XGradCAM": functools.partial(pytorch_grad_cam, "XGradCAM"),
    "pytorch-grad-cam GradCAM": functools.partial(pytorch_grad_cam, "GradCAM"),
}
