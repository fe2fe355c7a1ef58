"""How well maps keep what they promise: axioms, faithfulness, ground truth, sanity."""
