"""What circuits and edits do inside the model."""
