"""The circuit explorer: circuits, heads and traces as one HTML page that works without a network."""
