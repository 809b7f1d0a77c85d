"""Loading models and running them, one adapter a family."""
