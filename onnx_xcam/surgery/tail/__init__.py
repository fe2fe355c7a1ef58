"""The added part of the graph: from the score back to the layers, and the outputs of the contract."""
