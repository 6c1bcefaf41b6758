"""The state machine of a row: pure decisions without I/O, clock or randomness."""
