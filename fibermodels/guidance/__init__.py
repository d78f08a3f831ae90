"""What steers a prior, or refines a sample, towards the fiber: training-free."""

from fibermodels.guidance.costs import Cost, FiberDistance
from fibermodels.guidance.feedback import ConditionFeedback
from fibermodels.guidance.guidance import Guidance
from fibermodels.guidance.guided import Guided, Unguided
from fibermodels.guidance.objective import Objective, gradient

__all__ = ["ConditionFeedback", "Cost", "FiberDistance", "Guidance", "Guided", "Objective", "Unguided", "gradient"]
