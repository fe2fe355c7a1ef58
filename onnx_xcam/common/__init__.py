"""Ground that every part stands on: arguments, files, locks, text, integers, suggestions."""
