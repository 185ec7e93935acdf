"""vmkit: a virtual machine of its own for an AI coding agent."""

__version__ = "0.1.0"
