"""The operations of a forward pass: one a file, none knows a model."""
