"""Continual-learning methods, one file each, all against ``interface.Method``."""
