"""The networks that libraries have, for `tools.sweep.proofs`, by their own lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def of_transformers() -> Iterator[str]:
    """Every type of model of transformers that classifies pictures."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as NAMES

    for kind in NAMES:
        yield f"transformers:{kind}"


def of_keras() -> Iterator[str]:
    """The smallest application of each family of Keras: of those in one module the first with the fewest layers."""
    import inspect

    from tools.sweep import keras_models

    seen = set()
    for name, function in inspect.getmembers(keras_models.keras.applications, inspect.isfunction):
        if function.__module__ not in seen:
            seen.add(function.__module__)
            yield f"keras:{name}"


NAMES: dict[str, Callable[[], Iterator[str]]] = {"transformers": of_transformers, "keras": of_keras}
