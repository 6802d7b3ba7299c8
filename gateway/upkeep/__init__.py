"""What an operator does to an archive: rebuild its index, verify its objects, export a study. No door, no rights."""
