"""`askmill chat` on each API; `jobs.chat.session` starts it."""
