"""The subcommands of `knowcirc`, one module each (`cli.COMMANDS`), and what several of them share."""
