"""These modules are shared by several programs: models of torch, images, sessions, records, tables."""
