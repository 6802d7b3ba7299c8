"""What a DICOM instance is: parsing, identity, frames, the JSON model, character sets, queries. Pure: no I/O."""
