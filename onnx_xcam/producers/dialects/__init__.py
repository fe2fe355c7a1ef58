"""This package has one small reader for each producer, and the registry of them all.

`steps` and `label_file` are what several readers share.
"""

from __future__ import annotations
