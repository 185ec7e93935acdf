"""The .utm folder: what a machine is on disk."""
