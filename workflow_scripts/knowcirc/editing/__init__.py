"""Rank-one and fine-tuning editors and their evaluation (ROME, section 3)."""
