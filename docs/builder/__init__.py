"""Pages of the documentation that are made when it is built: from the command line, the registries and docstrings."""
