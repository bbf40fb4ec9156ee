"""Several evaluators as one."""

from collections.abc import Sequence

from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators


class EvaluatorList(DatasetEvaluators):
    """detectron2's DatasetEvaluators with a public list of its members.

    Args:
        evaluators: their results must have different names.
    """

    def __init__(self, evaluators: Sequence[DatasetEvaluator]) -> None:
        super().__init__(list(evaluators))
        self.evaluators = list(evaluators)
