"""The scripts that bring a log from one version of its schema to the next."""
