"""Modules that several programs share: models of torch, images, sessions, records, tables."""
