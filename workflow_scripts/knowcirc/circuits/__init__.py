"""The computational graph, its circuits, and how to find and score them."""
