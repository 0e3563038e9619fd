"""The command line: thin commands over the rest, one module each, imported when it is run."""
