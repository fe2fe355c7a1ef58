"""This package explains models that score many candidates in a picture: anchors, queries, regions, rows, time steps.

The nodes that `appended.py` adds to the model compute three tensors of the model's own: the scores S `[N, Q, C]` that
are differentiated, the probabilities P `[N, Q, C]` that rank and are reported, and the boxes B `[N, Q, 4]`; and of
these the rank of each candidate. Whatever a model's outputs look like, `table.py` chooses cells of the same table.
"""
