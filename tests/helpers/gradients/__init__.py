"""The generic vector-Jacobian check and its table of cases."""
