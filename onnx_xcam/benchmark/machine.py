"""What figures were taken on, and with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def machine() -> str:
    """Architecture, processor, how many cores this process may use, operating system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()}, {cores} x {_processor()}, {platform.system()}"


def _processor() -> str:
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown processor"


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of packages, by name; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
