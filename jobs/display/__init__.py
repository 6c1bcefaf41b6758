"""Status views as text, panels and pages."""
