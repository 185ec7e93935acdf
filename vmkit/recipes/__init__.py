"""Bring a guest to a wanted state."""
