"""This package writes a web page, a folder of plain files, that explains photos with a model in the browser."""

from onnx_xcam.demo.page import Page, write_page

__all__ = ["Page", "write_page"]
