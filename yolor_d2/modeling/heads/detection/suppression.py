"""Selection of detections among the predictions of the detection head."""

from typing import NamedTuple

from torch import Tensor
from torchvision.ops import batched_nms

from ....checks import check_range


class Suppression(NamedTuple):
    """Score threshold and non-maximum suppression.

    Attributes:
        score_thresh: only predictions with a higher score are considered.
        nms_thresh: of two boxes of a class with a larger IoU, the one with the lower score is
            dropped; 1: none is.
        multi_label: whether a point may detect an object of every class, or only of its best one.
        pre_nms_topk: maximum number of an image's predictions that enter NMS.
        detections_per_image: maximum number of detections of an image.
    """

    score_thresh: float = 0.001
    nms_thresh: float = 0.7
    multi_label: bool = True
    pre_nms_topk: int = 30000
    detections_per_image: int = 300

    def check(self) -> None:
        """Raise ValueError for invalid options."""
        key = "MODEL.DETECTION_HEAD.TEST"
        thresholds = {"SCORE_THRESH": self.score_thresh, "NMS_THRESH": self.nms_thresh}
        check_range(key, thresholds, high=1)
        check_range(key, {"PRE_NMS_TOPK": self.pre_nms_topk}, low=1)
        check_range("TEST", {"DETECTIONS_PER_IMAGE": self.detections_per_image}, low=1)

    def select(self, scores: Tensor, boxes: Tensor, *, margin: int) -> tuple[Tensor, Tensor]:
        """Point and class of each of the D detections of an image, by descending score.

        Args:
            scores: (A, C) of the points, in 0..1.
            boxes: (A, 4) x0 y0 x1 y1 of the points.
            margin: how far boxes can extend beyond the canvas, in pixels.

        Returns:
            (D,) indices of points, (D,) classes.
        """
        above = scores > self.score_thresh
        if not self.multi_label:
            best = scores.argmax(dim=1, keepdim=True)
            above = above.new_zeros(above.shape).scatter_(1, best, above.gather(1, best))
        point, classes = above.nonzero(as_tuple=True)
        # Stable: equal scores keep the order of points and classes.
        order = scores[point, classes].argsort(descending=True, stable=True)[: self.pre_nms_topk]
        point, classes = point[order], classes[order]
        if self.nms_thresh == 1:
            return point[: self.detections_per_image], classes[: self.detections_per_image]
        # batched_nms separates classes by shifting their boxes, which fails for negative
        # coordinates; in float32, the boxes of later classes would lose digits.
        kept = batched_nms(
            boxes[point].double() + margin,
            scores[point, classes].double(),
            classes,
            self.nms_thresh,
        )
        kept = kept.sort().values[: self.detections_per_image]
        return point[kept], classes[kept]
