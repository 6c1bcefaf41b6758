"""Solver: from a Problem to its Solution, with SymPy; runs in the helper process only."""
