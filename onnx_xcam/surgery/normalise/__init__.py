"""This package brings old and unusual models into the form that the surgery works on."""
