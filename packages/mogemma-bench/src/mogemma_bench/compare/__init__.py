"""`bench compare`: mogemma and others on the same work, turn about."""
