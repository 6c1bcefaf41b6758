"""The Assistants and the Responses API behind one protocol (`base.Backend`)."""
