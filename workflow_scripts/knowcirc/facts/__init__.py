"""Relations, prompts, splits and editing records."""
