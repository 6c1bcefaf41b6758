"""`askmill chat` on each API: `factory` chooses the backend, `session` starts or resumes the thread."""
