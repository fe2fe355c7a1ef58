"""This package proves for one model that its outputs are unchanged, its gradients right, and its axioms kept."""
