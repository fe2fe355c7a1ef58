"""Programs for maintainers: what each is for and how to run it stands in README.md beside this file.

Each is run from the repository's root as a module, `python -m tools.sweep`, so that they find one another and the
package beside them without changing `sys.path`.
"""
