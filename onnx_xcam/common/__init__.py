"""This package holds what every other part uses: arguments, files, locks, descriptions, operators and suggestions."""
