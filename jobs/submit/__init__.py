"""From a validated file and a profile to a stored batch; cancelling and deleting at the API."""
