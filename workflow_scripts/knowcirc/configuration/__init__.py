"""The configuration of a study: its settings, its checks and its reference."""
