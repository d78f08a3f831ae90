"""Evaluation: one way to sample, score, show and compare whatever is a FiberModel."""
