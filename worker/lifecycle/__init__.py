"""What to do next with a row: pure decisions, without I/O, clock or chance."""
