"""How `askmill chat` talks at each API, and what of it is shown (`jobs.chat.session` begins it)."""
