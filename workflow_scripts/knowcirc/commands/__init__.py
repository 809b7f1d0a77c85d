"""The subcommands of `knowcirc`: what they accept (`arguments`, `parsers`, `cases`: light) and what they do."""
