"""Small vision transformers in ONNX text: what exporters write for class tokens, registers, windows, patch merging."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.parser import parse_model

CLASSES = 5
HEIGHT, WIDTH = 2, 3
"""Of the grid: not square, so that a transposed map shows."""

_PATCHES = """
  patches = Conv<strides=[4, 4]>(image, conv_w)
  lined = Reshape(patches, n_c_t)
  grid = Transpose<perm=[0, 2, 1]>(lined)
"""
_LIST_SHAPES = {"n_c_t": [0, 4, -1], "heads": [0, 0, 2, 2], "joined": [0, 0, 4], "one": [1], "tokens_axis": [1]}


def _block(x: str, y: str) -> str:
    """Pre-norm attention of two heads, and a residual."""
    return f"""
  {y}_norm = LayerNormalization({x}, norm_w)
  {y}_q = MatMul({y}_norm, {y}_wq)
  {y}_k = MatMul({y}_norm, {y}_wk)
  {y}_v = MatMul({y}_norm, {y}_wv)
  {y}_q4 = Reshape({y}_q, heads)
  {y}_k4 = Reshape({y}_k, heads)
  {y}_v4 = Reshape({y}_v, heads)
  {y}_qh = Transpose<perm=[0, 2, 1, 3]>({y}_q4)
  {y}_kh = Transpose<perm=[0, 2, 3, 1]>({y}_k4)
  {y}_vh = Transpose<perm=[0, 2, 1, 3]>({y}_v4)
  {y}_scores = MatMul({y}_qh, {y}_kh)
  {y}_rows = Softmax<axis=-1>({y}_scores)
  {y}_mixed = MatMul({y}_rows, {y}_vh)
  {y}_back = Transpose<perm=[0, 2, 1, 3]>({y}_mixed)
  {y}_flat = Reshape({y}_back, joined)
  {y} = Add({x}, {y}_flat)
"""


def _with_tokens(before: int, after: int) -> str:
    parts = ["first"] * bool(before) + ["grid"] + ["last"] * bool(after)
    makes = """
  shape = Shape<start=0, end=1>(image)
  first_shape = Concat<axis=0>(shape, first_size)
  first = Expand(first_token, first_shape)
  last_shape = Concat<axis=0>(shape, last_size)
  last = Expand(last_token, last_shape)
"""
    return makes + f"  x0 = Concat<axis=1>({', '.join(parts)})\n"


_BLOCKS = _block("x0", "x1") + _block("x1", "x2") + "  normed = LayerNormalization(x2, norm_w)\n"
_CLASS_TOKEN = """
  picked = Gather<axis=1>(normed, zero)
  logits = Gemm(picked, fc)
"""
_TWO_TOKENS = """
  a = Gather<axis=1>(normed, zero)
  b3 = Slice(normed, one, two, tokens_axis)
  b = Squeeze(b3, tokens_axis)
  sum = Add(a, b)
  logits = Gemm(sum, fc)
"""
_AVERAGE = """
  mean = ReduceMean<axes=[1], keepdims=0>(normed)
  logits = Gemm(mean, fc)
"""
_AVERAGE_OF_GRID = """
  only = Slice(normed, first_count, grid_end, tokens_axis)
  mean = ReduceMean<axes=[1], keepdims=0>(only)
  logits = Gemm(mean, fc)
"""
_WINDOWS = (
    """
  patches = Conv<strides=[2, 2]>(image, conv_w2)
  x0 = Transpose<perm=[0, 2, 3, 1]>(patches)
  cells = Reshape(x0, to_cells)
  windows6 = Transpose<perm=[0, 1, 3, 2, 4, 5]>(cells)
  windows = Reshape(windows6, to_windows)
"""
    + _block("windows", "attended")
    + """
  again6 = Reshape(attended, from_windows)
  again = Transpose<perm=[0, 1, 3, 2, 4, 5]>(again6)
  x1 = Reshape(again, to_map)
  top = Slice(x1, zeros1, one, tokens_axis)
  rest = Slice(x1, one, four, tokens_axis)
  rolled = Concat<axis=1>(rest, top)
  pairs = Reshape(rolled, to_pairs)
  pairs_last = Transpose<perm=[0, 1, 3, 4, 2, 5]>(pairs)
  merged = Reshape(pairs_last, to_merged)
  reduced = MatMul(merged, merge_w)
  normed = LayerNormalization(reduced, norm_w)
  mean = ReduceMean<axes=[1, 2], keepdims=0>(normed)
  logits = Gemm(mean, fc)
"""
)


def _tokens_first_block(x: str, y: str) -> str:
    """As `_block` on `[T, N, C]`: heads are split off the images' axis, as nn.MultiheadAttention has it."""
    return f"""
  {y}_norm = LayerNormalization({x}, norm_w)
  {y}_q = MatMul({y}_norm, {y}_wq)
  {y}_k = MatMul({y}_norm, {y}_wk)
  {y}_v = MatMul({y}_norm, {y}_wv)
  {y}_q3 = Reshape({y}_q, heads_of_images)
  {y}_k3 = Reshape({y}_k, heads_of_images)
  {y}_v3 = Reshape({y}_v, heads_of_images)
  {y}_qh = Transpose<perm=[1, 0, 2]>({y}_q3)
  {y}_kh = Transpose<perm=[1, 2, 0]>({y}_k3)
  {y}_vh = Transpose<perm=[1, 0, 2]>({y}_v3)
  {y}_scores = MatMul({y}_qh, {y}_kh)
  {y}_rows = Softmax<axis=-1>({y}_scores)
  {y}_mixed = MatMul({y}_rows, {y}_vh)
  {y}_back = Transpose<perm=[1, 0, 2]>({y}_mixed)
  {y}_flat = Reshape({y}_back, images_again)
  {y} = Add({x}, {y}_flat)
"""


_TOKENS_FIRST = (
    "  first_in = Transpose<perm=[1, 0, 2]>(x0)\n"
    + _tokens_first_block("first_in", "x1")
    + _tokens_first_block("x1", "x2")
    + "  last_out = Transpose<perm=[1, 0, 2]>(x2)\n  normed = LayerNormalization(last_out, norm_w)\n"
)

_CUT_BY_RESHAPES = """
  cells = Reshape(image, to_patches)
  patches6 = Transpose<perm=[0, 2, 4, 1, 3, 5]>(cells)
  patches = Reshape(patches6, lined_up)
  patch_rows = Reshape(patches, patch_list)
  made = Gemm(patch_rows, patch_w)
  grid = Reshape(made, grid_again)
"""
_ROWS = """
  rows = Reshape(normed, row_list)
  mixed_rows = Gemm(rows, mix_w)
  active_rows = Relu(mixed_rows)
  branch = Reshape(active_rows, tokens_again)
  x3 = Add(x2, branch)
  picked = Gather<axis=1>(x3, zero)
  logits = Gemm(picked, fc)
"""
"""Dense layers on the list of all images' tokens, as jax2onnx writes them."""

MODELS: Mapping[str, str] = {
    "class token": _PATCHES + _with_tokens(1, 0) + _BLOCKS + _CLASS_TOKEN,
    "class and distillation": _PATCHES + _with_tokens(2, 0) + _BLOCKS + _TWO_TOKENS,
    "registers behind": _PATCHES + _with_tokens(1, 3) + _BLOCKS + _CLASS_TOKEN,
    "register behind alone": _PATCHES + _with_tokens(0, 1) + _BLOCKS + _AVERAGE,
    "no other token": _PATCHES + "  x0 = Identity(grid)\n" + _BLOCKS + _AVERAGE,
    "average without registers": _PATCHES + _with_tokens(2, 1) + _BLOCKS + _AVERAGE_OF_GRID,
    "windows and merging": _WINDOWS,
    "tokens first": _PATCHES + _with_tokens(1, 0) + _TOKENS_FIRST + _CLASS_TOKEN,
    "cut by reshapes": _CUT_BY_RESHAPES + _with_tokens(1, 0) + _BLOCKS + _ROWS,
}


def token_model(name: str, *, n: int | str = "N", height: int | str = 8, width: int | str = 12) -> onnx.ModelProto:
    """One of `MODELS` with random weights: image [N,3,8,12], patches of 4, a grid of 2 x 3 (windows: 4 x 6, merged)."""
    body = MODELS[name]
    before = 2 if "first_count" in body or "b3 = " in body else 1
    after = 3 if name == "registers behind" else 1
    lists = {
        **_LIST_SHAPES,
        "first_size": [before, 4],
        "last_size": [after, 4],
        "first_count": [before],
        "grid_end": [before + HEIGHT * WIDTH],
        "zeros1": [0],
        "two": [2],
        "four": [4],
        "heads_of_images": [1 + HEIGHT * WIDTH, -1, 2],
        "images_again": [1 + HEIGHT * WIDTH, -1, 4],
        "to_patches": [0, 3, HEIGHT, 4, WIDTH, 4],
        "lined_up": [0, HEIGHT * WIDTH, 48],
        "patch_list": [-1, 48],
        "grid_again": [-1, HEIGHT * WIDTH, 4],
        "row_list": [-1, 4],
        "tokens_again": [-1, 1 + HEIGHT * WIDTH, 4],
        "to_cells": [0, 2, 2, 3, 2, 4],
        "to_windows": [-1, 4, 4],
        "from_windows": [-1, 2, 3, 2, 2, 4],
        "to_map": [-1, 4, 6, 4],
        "to_pairs": [0, 2, 2, 3, 2, 4],
        "to_merged": [0, 2, 3, 16],
    }
    arrays = {key: np.array(value, np.int64) for key, value in lists.items()}
    arrays["zero"] = np.array(0, np.int64)
    random = np.random.default_rng(0)
    shapes = {"conv_w": (4, 3, 4, 4), "conv_w2": (4, 3, 2, 2), "norm_w": (4,), "fc": (4, CLASSES), "merge_w": (16, 4)}
    shapes |= {"patch_w": (48, 4), "mix_w": (4, 4), "first_token": (1, before, 4), "last_token": (1, after, 4)}
    shapes |= {f"{block}_w{part}": (4, 4) for block in ("x1", "x2", "attended") for part in "qkv"}
    arrays |= {key: random.normal(0, 1, shape).astype(np.float32) for key, shape in shapes.items()}
    h, w = ("H" if isinstance(height, str) else height), ("W" if isinstance(width, str) else width)
    text = f"(float[{n},3,{h},{w}] image) => (float[{n},{CLASSES}] logits) {{ {body} }}"
    model = parse_model(f'<ir_version: 8, opset_import: ["" : 17]> tokens {text}')
    used = {tensor for node in model.graph.node for tensor in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(a, key) for key, a in arrays.items() if key in used)
    onnx.checker.check_model(model)
    return model
