"""Run one model in one runtime: `tools.runtimes` starts this as it starts any other program.

    python -m tools.runtimes.case RUNTIME MODEL.onnx FOLDER

FOLDER holds `inputs.json`, which maps the model's inputs to `.npy` files beside it. What comes out is written there in
the same form, `outputs.json` and `.npy` files. A program in another language that does so is another row of the table:
`python -m tools.runtimes --command "NAME=program argument ..."`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from tools.runtimes.adapters import RUNTIMES


def main() -> None:
    """Run, and write the outputs; what goes wrong is the last line of stderr."""
    name, model, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    files = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
    feeds = {key: np.load(folder / file) for key, file in files.items()}
    outputs = RUNTIMES[name].run(model, feeds)
    named = {}
    for index, (key, value) in enumerate(outputs.items()):
        named[key] = f"output_{index}.npy"
        np.save(folder / named[key], np.asarray(value))
    (folder / "outputs.json").write_text(json.dumps(named), encoding="utf-8")


if __name__ == "__main__":
    main()
