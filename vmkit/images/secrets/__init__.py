"""Secrets on a disk: what they look like, where they lie."""
