"""What facts are chosen by. Nothing here imports torch."""

from typing import Literal

Known = Literal["rank1", "hit10"]
"""When a model knows a fact: its answer is the likeliest token, or among the `hits` likeliest."""
