"""What a machine with a GPU shows: CPU and GPU agree, what things take there, and how much memory."""
