r"""What a mathematical answer says, from its text alone: `\frac12`, `1/2` and `0.5` are one value.

text -> tokens -> reading (a value, a list, an interval, an equation, words) -> equal or not. Nothing is executed, and
everything is bounded in size before it is computed, so that a verdict does not depend on the machine.
"""
