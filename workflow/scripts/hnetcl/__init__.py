"""Continual learning with hypernetworks: methods, tasks, training and evaluation (von Oswald et al., 2020)."""
