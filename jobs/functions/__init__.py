"""The user's Python functions: loaded, described to the model, called."""
