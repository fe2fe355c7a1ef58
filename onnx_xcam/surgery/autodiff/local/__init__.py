"""This package differentiates scores that have a place: in a small window around each, all windows as small images.

A candidate of a detector stands at one position of one pyramid level, and between a level's layer and its scores there
are mostly convolutions of stride 1 and steps that keep positions apart. The gradient of its score is then zero outside
a window of a few positions, which `forms` and `plan` find by the structure of the graph. `frames` says where the
windows of all chosen candidates lie, and `sweep` applies the ordinary gradient rules to them: a rule sees the forward
tensors as windows `[N K, ...]`, and one class. Gradients of the whole table, `[K, N, Q, C]`, are never made.
"""
