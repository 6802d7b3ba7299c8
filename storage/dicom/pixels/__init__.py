"""Pixels of one frame at a time: decode, encode, and from one transfer syntax to another (PS3.5 8, A.4, annex G).

`description`, `syntaxes` and `conversion` say what is there and what can be done, without loading a codec. `decode`,
`encode` and `transcode` touch pixels: they belong into a process of the pool, as no codec is proof against all bytes.
"""
