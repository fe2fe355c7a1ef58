"""tract, the engine in Rust (here by its Python package).

python examples/python/with_tract.py explained.onnx sample_models/photos/cat.png --class 282 --class 285
"""

import common
import numpy as np
import tract


def run(model: str, image: np.ndarray, classes: np.ndarray) -> common.Outputs:
    """tract compiles for sizes that it knows: the batch is a symbol in the file, and K has to be stated."""
    loaded = tract.onnx().load(model)
    loaded.set_input_fact(1, f"1,{classes.shape[1]},i64")
    typed = loaded.into_model()
    typed.transform(tract.SetSymbols({"batch": 1}))
    results = typed.into_runnable().run([image, classes])
    names = ["logits", "xcam_classes", "xcam_scores", "xcam_map", "xcam_heatmap"]
    return {name: result.to_numpy() for name, result in zip(names, results, strict=True)}


if __name__ == "__main__":
    common.main(run)
