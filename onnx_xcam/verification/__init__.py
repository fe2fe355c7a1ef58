"""The proof that `check` gives of one model: outputs unchanged, gradients right, axioms kept."""
