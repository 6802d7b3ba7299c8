"""The DIMSE door: associations, C-ECHO, C-STORE. The only room with pynetdicom."""
