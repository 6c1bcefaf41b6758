"""Working: from a problem to its worked answer, by SymPy; runs in the helper process only."""
