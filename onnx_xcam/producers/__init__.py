"""This package reads what the producers of models state about them, preprocessing and labels, each in its own way.

A dialect is one small reader: plain data goes in, a `Statement` comes out. Nothing in a file is evaluated, and sizes
are bounded.
"""

from __future__ import annotations
