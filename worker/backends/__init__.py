"""The two APIs that can answer a question, behind one Protocol (`base.Backend`)."""
