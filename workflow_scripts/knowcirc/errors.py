"""What a user reads where something went wrong."""


def message_of(error: BaseException) -> str:
    """What a user reads of a mistake in one line, or of a GPU whose memory was too small; "" for all else."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
        return "the GPU's memory is too small for this; use device cpu, a larger GPU, or fewer prompts"
    return str(error) if isinstance(error, ValueError) else ""
