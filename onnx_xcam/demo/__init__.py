"""A web page that explains photos with the user's own model, in the browser, from a folder of plain files."""

from onnx_xcam.demo.page import Page, write_page

__all__ = ["Page", "write_page"]
