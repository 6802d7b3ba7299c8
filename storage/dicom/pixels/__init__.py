"""Pixels of one frame at a time: decode, encode, and from one transfer syntax to another (PS3.5 8, A.4, annex G).

`description`, `syntaxes` and `conversion` answer what can be done without loading numpy; the others touch pixels.
"""
