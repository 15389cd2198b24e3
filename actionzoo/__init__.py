"""Human action recognition in PyTorch: layers, models, training and scoring of five papers."""

__version__ = "0.1.0"
