"""This module resolves the execution providers that a user names and checks that a session really runs on them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from onnx_xcam.common.arguments import texts
from onnx_xcam.errors import DependencyError, ProviderError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
_SUFFIX = "ExecutionProvider"
# The package extras that bring a missing provider; for others the user has to find a build of ONNX Runtime.
_EXTRA = {CPU: "onnx-xcam[cpu]", CUDA: "onnx-xcam[gpu]"}


def import_onnxruntime() -> Any:
    """Import and return the onnxruntime module.

    Raises:
        DependencyError: ONNX Runtime is not installed, or its shared libraries cannot be loaded.
    """
    try:
        import onnxruntime  # noqa: PLC0415  - optional, and slow to import
    except ImportError as error:
        raise DependencyError(
            f"ONNX Runtime cannot be imported ({error}). Install it with: pip install 'onnx-xcam[cpu]', "
            "or 'onnx-xcam[gpu]' for CUDA."
        ) from error
    return onnxruntime


def available_providers() -> tuple[str, ...]:
    """Return the full names of the providers that the installed ONNX Runtime was built with, best first."""
    return tuple(import_onnxruntime().get_available_providers())


def short_name(provider: str) -> str:
    """Return a provider's name as people type it: `cuda` for `CUDAExecutionProvider`."""
    return provider.removesuffix(_SUFFIX).lower()


def resolve_providers(asked: str | Sequence[str] | None) -> tuple[tuple[str, ...], bool]:
    """Return the full names of the providers to start a session with, best first, and whether the user named them.

    Args:
        asked: names in any case, with or without the ending "ExecutionProvider" ("cuda", "CPU",
            "CoreMLExecutionProvider"); None or an empty list takes CUDA where this ONNX Runtime has it, else the CPU.

    Raises:
        ProviderError: a name that the installed ONNX Runtime does not list.
    """
    available = available_providers()
    names = () if asked is None else texts("providers", asked, ProviderError)
    if not names:
        return ((CUDA,) if CUDA in available else (CPU,)), False
    by_key = {_key(name): name for name in available}
    missing = [name for name in names if _key(name) not in by_key]
    if missing:
        raise ProviderError(_missing_message(missing[0], available))
    return tuple(dict.fromkeys(by_key[_key(name)] for name in names)), True


def check_running(asked: Sequence[str], running: Sequence[str]) -> None:
    """Make sure that a session runs on the providers that were asked for.

    ONNX Runtime falls back to the CPU with no more than a line in its log.

    Raises:
        ProviderError: a provider that was asked for is not in use, or another one goes before it.
    """
    if tuple(running[: len(asked)]) == tuple(asked):
        return
    lost = next((name for name in asked if name not in running), asked[0])
    hint = (
        "Check the driver, and that the CUDA and cuDNN versions are those that this onnxruntime-gpu needs "
        "(pip install 'onnxruntime-gpu[cuda,cudnn]')"
        if lost == CUDA
        else "ONNX Runtime's own message is above"
    )
    raise ProviderError(
        f"The provider {short_name(lost)!r} is installed but could not be started; the session would run on "
        f"{', '.join(short_name(name) for name in running)} instead. {hint}, or ask for the provider 'cpu'."
    )


def _key(name: str) -> str:
    """Return a provider's name as names are compared: in lower case, without separators and without the ending."""
    return re.sub(r"[\s_-]", "", name).lower().removesuffix(_SUFFIX.lower())


def _missing_message(name: str, available: Sequence[str]) -> str:
    """Return the message that a provider is missing, with the commands that install it where they are known."""
    there = ", ".join(short_name(provider) for provider in available)
    extra = next((extra for provider, extra in _EXTRA.items() if _key(provider) == _key(name)), None)
    if extra is None:
        return f"The installed ONNX Runtime has no provider {name!r}. It has: {there}."
    mend = f"pip install '{extra}'"
    if extra == _EXTRA[CUDA]:
        mend = f"pip uninstall onnxruntime, then {mend}"
    return f"The installed ONNX Runtime has no provider {name!r}. It has: {there}. To get {name!r}: {mend}."
