"""The web door: DICOMweb and the health pages. The only room with starlette, and the only asynchronous code."""
