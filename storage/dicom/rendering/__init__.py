"""From decoded pixels to pictures, and from reports to text (PS3.4 N.2, PS3.18 8.3.5, 8.7.4).

`wish`, `attributes`, `report` and `video` need no numpy, so that any process may parse a request and say what can be
had; the others touch pixels. Only `video` starts a program, and only `fonts` reads files.
"""
