"""Settings and logs: what a user can set, and what askmill says while it works."""
