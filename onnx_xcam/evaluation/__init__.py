"""This package measures how good maps are: by axioms, faithfulness, ground truth and sanity checks."""
