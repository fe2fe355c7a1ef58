"""These programs make files of this repository again: reference, pictures, sample models, the browser's runtime."""
