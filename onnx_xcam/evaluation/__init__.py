"""How good a map is: measured on photos, against the model and against what the photos show."""
