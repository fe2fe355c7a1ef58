"""Whole models are compared with the gradient of their framework, and with the pictures that they are known to take."""
