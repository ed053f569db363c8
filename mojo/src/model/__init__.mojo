"""One forward pass, steered by numbers and never by a model's name."""
