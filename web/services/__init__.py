"""What the page and the HTTP API do alike: submit, estimate, read rows, download."""
