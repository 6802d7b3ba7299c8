"""Who may ask for an instance, and how: the archive's use-cases, the two doors and the command."""
