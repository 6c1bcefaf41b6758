"""The HTTP API under /api: its routes, the objects of its answers, its description."""
