"""All that touches this computer. What differs between Linux and macOS is written here and nowhere else."""
