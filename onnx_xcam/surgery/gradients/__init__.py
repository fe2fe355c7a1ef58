"""The backward pass: what lies on the way, what may be read of the forward pass, and the sweep over the rules."""
