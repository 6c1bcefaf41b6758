"""From a checked file and a profile to a stored batch, and its clean-up at the API."""
