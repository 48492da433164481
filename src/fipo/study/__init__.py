"""Controlled comparisons: arms x seeds, everything but the named settings equal, paired by seed."""
