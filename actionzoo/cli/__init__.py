"""The command line: `actionzoo list | info | predict | train | eval | verify`."""

from .app import build_parser as build_parser
from .app import main as main
from .predict import DEFAULT_PICTURE as DEFAULT_PICTURE

__all__ = ["DEFAULT_PICTURE", "build_parser", "main"]
