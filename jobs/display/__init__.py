"""Status views as text, as a terminal panel and as HTML."""
