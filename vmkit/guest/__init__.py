"""Inside the running machine, over SSH."""
