r"""Are two written answers the same?  Each step is a module, and each may be looked at by itself.

    tokens     LaTeX, plain text and Unicode  ->  tokens: numbers, letters, words, commands, groups
    grammar    tokens of one expression       ->  a syntax tree
    evaluate   trees                          ->  exact or 50-digit values; are two trees equal?
    units      tokens of a unit               ->  a unit with its dimension and factor
    values     the kinds of answer that there are
    reader     tokens                         ->  a value of one kind
    sets       intervals, inequalities        ->  sets of real numbers
    relations  equations and inequalities     ->  are they equal up to a factor?
    precision  the digits of a STEM value     ->  do two values agree within them?
    compare    two values                     ->  a verdict and the rule that decided

Nothing here evaluates a text: what is not in the grammar is text, and text equals the same text only.
"""
