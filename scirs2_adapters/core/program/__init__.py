"""The recorded formula: `recorder` writes it down, `recorded` keeps it, `interpret` and `passes` are the two ways to
run it.
"""
