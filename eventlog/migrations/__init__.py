"""Scripts, each of which migrates a log from one version of its schema to the next."""
