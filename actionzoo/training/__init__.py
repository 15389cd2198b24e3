"""How the models are trained: paper-specific steps as plain functions, recipes, and one short loop."""

from .evaluate import Evaluation as Evaluation
from .evaluate import evaluate as evaluate
from .fit import fit as fit
from .progressive import ProgressiveOutput as ProgressiveOutput
from .progressive import progressive_step as progressive_step
from .recipes import Recipe as Recipe
from .recipes import recipes as recipes

__all__ = ["Evaluation", "ProgressiveOutput", "Recipe", "evaluate", "fit", "progressive_step", "recipes"]
