"""Edits seen through circuits and layers."""
