"""A detection head of your own, which drops objects at the border of the image.

python examples/custom_head.py model_final.pth street.jpg

To train with it:

yolor-d2 train --data photos --import examples.custom_head MODEL.DETECTION_HEAD.NAME InnerHead
"""

import sys

from detectron2.structures import Instances

from yolor_d2 import Predictor
from yolor_d2.modeling.heads import DETECTION_HEAD_REGISTRY, AnchorFreeHead

MARGIN = 1  # pixels of the network's input


@DETECTION_HEAD_REGISTRY.register()
class InnerHead(AnchorFreeHead):
    """AnchorFreeHead without objects that touch the top or left border."""

    def inference(self, predictions, *args, **kwargs) -> list[Instances]:
        found = super().inference(predictions, *args, **kwargs)
        return [each[(each.pred_boxes.tensor[:, :2] >= MARGIN).all(dim=1)] for each in found]


def main(weights: str, image: str) -> None:
    plain = Predictor(weights)(image)
    inner = Predictor(weights, opts=["MODEL.DETECTION_HEAD.NAME", "InnerHead"])(image)
    print(f"{len(plain.instances)} objects, {len(inner.instances)} of them inside")


if __name__ == "__main__":
    main(*sys.argv[1:])
