"""What people would use instead of askmill, each a program of its own: prints one JSON object."""
