"""Kiro CLI: its releases and its login."""
