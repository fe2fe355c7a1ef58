"""What an evaluation says, as plain data: a record per image, and a summary of all. Both are JSON as they are.

A record, one line of results.jsonl:

    {"image": "photos/cat.png", "model": "m.onnx", "layer": ["block5", "features"], "method": ["xgrad-cam", "grad-cam"],
     "classes": [282], "labels": ["tiger cat"] or null, "scores": [9.25], "probabilities": [0.39] or null,
     "confidences": [0.39],               what the perturbed pictures are compared with: the probability, else the score
     "results": [                         one for each layer, method and class, in this order
        {"layer": "features", "method": "xgrad-cam", "class": 282,
         "metrics": {"insertion": 0.31, "conservation": 0.02, "drop": null, ...},     null: not defined for this map
         "curves": {"insertion": [0.01, ..., 0.39], ...}}],                           null where a value is not finite
     "files": [], "seconds": 1.9, "error": null, "settings": {...},
     "path": "../photos/cat.png", "sha256": "9f86..."}         which file it is; in results.jsonl only

"layer" and "method" are always lists, in the order of the command line. A photo that failed has "error": "<sentence>",
empty lists, null for labels and probabilities. "metrics" holds the same names in every result of a run, in the order
of `METRICS`. Curves go with `CURVES`: the first value of each is at the first fraction, the last at the last, in even
steps.

The summary, summary.json, made of all records:

    {"version": 1, "model": "m.onnx", "images": 20, "failed": 0, "maps": 20,       maps: in each of the rows
     "layers": ["block5", "features"], "methods": ["xgrad-cam", "grad-cam"], "confidence": "probability" or "score",
     "metrics": [{"name": "insertion", "title": "Insertion", "better": "higher", "text": "..."}, ...],
     "curves": [{"name": "insertion", "title": "...", "x": "...", "from": 0.0, "to": 1.0}, ...],
     "rows": [                            one for each layer and method, in this order
        {"layer": "features", "method": "xgrad-cam",
         "metrics": {"insertion": {"count": 20, "mean": 0.31, "std": 0.1, "min": 0.02, "max": 0.8}, ...},
         "curves": {"insertion": {"count": 20, "mean": [0.01, ..., 0.37]}, ...}}],
     "notes": [...], "warnings": [...], "seconds": 40.1, "settings": {...}, "command": "onnx-xcam evaluate ..." or null}

With the sanity check there is also "sanity": one for each layer of the maps ("target"), method and depth, with what
`sanity.SanityStep` has, and "follows": whether the method's maps change with the weights, null where they were blank.

count is how many maps had a value; mean, std (of the sample; null below two), min and max are null where count is 0.
"""
