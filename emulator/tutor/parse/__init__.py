"""Parser: from the text of a question to its Problem, or to the reason why there is none.

question.py     entry: normalize, match a grammar rule, check the size
normalize.py    English -> shape (keywords with F for each formula); vocabulary.py has the words
grammar.py      shape -> Problem; sympy_calls.py does the same for questions written as SymPy calls
latex.py        marked formulas and calculus notation in prose
lexer.py        formula -> tokens
pratt.py        tokens -> syntax tree
size_limits.py  upper bounds of a result's size
"""
