"""The figures and tables of a study: what each shows, what makes it, from what, and what its columns hold."""
