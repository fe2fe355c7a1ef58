"""Write what each image processor of transformers takes for keys that a file leaves out.

python -m tools.release.hugging_face_defaults           # write it
python -m tools.release.hugging_face_defaults --check   # exit status 1 if it is not that of the installed transformers

It needs transformers and torchvision, and writes `onnx_xcam/producers/tables/hugging_face.json`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from onnx_xcam.producers.dialects.hugging_face import classes, processor
from tools.common import command_line
from tools.common.generated import write_or_check


def defaults() -> dict[str, dict[str, Any]]:
    """Return the default values of all followed classes, by key, as the installed transformers have them."""
    return {name: _of_class(name) for name in sorted(classes.FOLLOWED)}


def text() -> str:
    """Return the content of the file."""
    lines = (f"{json.dumps(name)}: {json.dumps(values)}" for name, values in defaults().items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _of_class(name: str) -> dict[str, Any]:
    """Return the default values of a class for the keys that change a picture."""
    import transformers

    made = getattr(transformers, name)()
    stated = json.loads(made.to_json_string()) | {"default_to_square": made.default_to_square}
    way = classes.FOLLOWED[name]
    read = (processor.BASE_KEYS | way.follows | way.refuses.keys()) - way.ignores
    return {key: stated[key] for key in sorted(read) if stated.get(key) is not None}


def main() -> int:
    """Write the file, or only compare it."""
    return write_or_check(
        command_line.parser("tools.release.hugging_face_defaults", __doc__), lambda: [(classes.TABLE, text())]
    )


if __name__ == "__main__":
    sys.exit(main())
