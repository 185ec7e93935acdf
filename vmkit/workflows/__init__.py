"""Use cases: one verb a file; collaborators in, a result out."""
