"""What vmkit has made."""
