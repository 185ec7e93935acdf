"""The closed network of a machine: what its guest may reach, and the only way out."""
