"""Reading the model: the logit lens, single heads, their roles, and the model without them."""
