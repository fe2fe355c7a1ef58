"""`python -m tools.formats` tries models as tools for production prepare them, float16 and quantised ones too."""
