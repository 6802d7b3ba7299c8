"""Pixels of one frame at a time: decode, encode, and from one transfer syntax to another (PS3.5 8, A.4, annex G).

`description`, `syntaxes` and `conversion` answer what is there and what can be done, without loading a codec; the others touch pixels.
"""
