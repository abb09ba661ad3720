"""What lies on disk: the run folder, files written whole or not at all, the vault, what is hidden."""
