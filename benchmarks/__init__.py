"""Figures that others can measure again: ``python -m benchmarks [NAME…]``."""
