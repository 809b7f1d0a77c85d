"""Causal tracing of facts (ROME, section 2)."""
