"""What an instance is and where it lies. Knows nothing of HTTP, DIMSE, callers or configuration files."""
