"""The HTTP server, its registry of objects, and injected faults."""
