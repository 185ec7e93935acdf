"""Disks known by digest, in an OCI image layout."""
