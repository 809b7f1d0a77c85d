"""Tables over the whole study: averages, the papers' claims, the main numbers."""
