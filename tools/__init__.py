"""What is needed to release, and not to develop or to run."""
