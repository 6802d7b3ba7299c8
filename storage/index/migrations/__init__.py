"""Migrations of the index, run by `storage.index.upgrade` when an index is opened; `versions` has one file for each."""
