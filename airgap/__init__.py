"""Carry the Weights & Biases Kubernetes Operator across an air gap, and prove that nothing points outside."""

__version__ = "0.1.0"
