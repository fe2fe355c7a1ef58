"""This module describes the machine that figures were measured on, and the versions they were measured with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def machine() -> str:
    """Return a text on the machine: architecture, number of cores that this process may use, processor, system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()}, {cores} x {_processor()}, {platform.system()}"


def _processor() -> str:
    """Return the name of the processor model."""
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown processor"


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of packages, by name; packages that are not installed are left out."""
    by_name = {"python": platform.python_version()}
    for package in packages:
        try:
            by_name[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return by_name
