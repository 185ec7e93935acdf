"""Signatures of images: SSH keys and signatures, what is signed, whose count, and the newest that was seen."""
