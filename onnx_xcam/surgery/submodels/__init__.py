"""Parts of a model as models of their own: the part behind a layer, with masks, and what its score is made of."""
