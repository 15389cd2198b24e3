"""Faster copies of models for inference: folding, memory layout, precision, CUDA graphs."""

from .inference import optimize_for_inference as optimize_for_inference

__all__ = ["optimize_for_inference"]
