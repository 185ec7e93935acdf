"""Images elsewhere: in a registry that speaks the OCI distribution protocol, or in a folder to carry away."""
