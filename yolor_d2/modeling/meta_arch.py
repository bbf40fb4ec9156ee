"""YOLOR: one trunk, up to four heads, two views of an image in training."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone, build_sem_seg_head
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import Tensor, nn

from ..letterbox import Content, pad_images
from ..tasks import check_tasks
from ..tokenizer import Tokenizer
from .backbone import PAN, SIZE_DIVISIBILITY, YOLORELAN
from .heads import (
    AnchorFreeHead,
    PointPredictions,
    PrototypeMaskHead,
    SemanticHead,
    TransformerCaptionHead,
    VisualTokens,
    build_caption_head,
    build_detection_head,
    build_mask_head,
)
from .heads.caption.regions import found_regions, true_regions
from .heads.caption.self_critical import Reward
from .layers import asked_for_losses, learns, norm_momentum
from .objects import CaptionTargets, Objects
from .panoptic import PanopticMerger
from .results import Frame, RawOutputs, make_frames, place_instances, place_map
from .views import (
    STRONG,
    WEAK,
    Sample,
    View,
    caption_ids,
    check_pixels,
    check_views,
    make_view,
    same_canvas,
    view_instances,
    view_masks,
    view_sem_seg,
)

Features = dict[str, Tensor]
Contents = Sequence[Content] | Tensor | None


@META_ARCH_REGISTRY.register()
class YOLOR(nn.Module):
    """Boxes, masks, semantic maps and captions from one backbone.

    A head exists or is None. Where both instances and a semantic map are predicted, a panoptic map
    is as well.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        detection_head: AnchorFreeHead | None = None,
        mask_head: PrototypeMaskHead | None = None,
        semantic_head: SemanticHead | SemSegFPNHead | None = None,
        caption_head: TransformerCaptionHead | None = None,
        panoptic: PanopticMerger | None = None,
        tokenizer: Tokenizer | None = None,
        weak_view_tasks: Sequence[str] = ("caption",),
        weak_bn: str = "update",
        pad: str = "corner",
        full_logits: bool = False,
        pixel_mean: Sequence[float] = (0.0, 0.0, 0.0),
        pixel_std: Sequence[float] = (255.0, 255.0, 255.0),
    ) -> None:
        """
        Args:
            backbone: makes the maps that the heads read.
            detection_head, mask_head, semantic_head, caption_head: what is trained and predicted.
            panoptic: merges instances and semantic map; needs both.
            tokenizer: turns predicted token ids into text; without one, captions are ids only.
            weak_view_tasks: tasks that learn from the weak view; the others from the strong one.
            weak_bn: whether the weak view moves the running statistics of batch norms: "update"
                or "frozen".
            pad: where a test image lies on its canvas, "corner" or "center".
            full_logits: predict semantic logits at the image's size rather than labels.
            pixel_mean, pixel_std: of the channels, in 0..255.
        """
        super().__init__()
        self.backbone = backbone
        self.detection_head = detection_head
        self.mask_head = mask_head
        self.semantic_head = semantic_head
        self.caption_head = caption_head
        self.panoptic = panoptic
        self.tokenizer = tokenizer
        check_tasks(sorted(self.heads), weak_view_tasks)
        self.weak_tasks = frozenset(weak_view_tasks) & frozenset(self.heads)
        self.strong_tasks = frozenset(self.heads) - self.weak_tasks
        check_views(weak_bn=weak_bn, pad=pad, strong_tasks=self.strong_tasks)
        check_pixels(pixel_mean, pixel_std)
        self.weak_bn = weak_bn
        self.pad = pad
        self.full_logits = full_logits
        self.canvas_divisor = max(SIZE_DIVISIBILITY, backbone.size_divisibility)
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        tasks, weak_view_tasks = cfg.MODEL.YOLOR.TASKS, cfg.INPUT.WEAK_VIEW_TASKS
        check_tasks(tasks, weak_view_tasks)
        both = "mask" in tasks and "semantic" in tasks
        backbone = build_backbone(cfg)
        shapes: dict[str, ShapeSpec] = backbone.output_shape()
        return {
            "backbone": backbone,
            "detection_head": build_detection_head(cfg, shapes) if "detection" in tasks else None,
            "mask_head": build_mask_head(cfg, shapes) if "mask" in tasks else None,
            "semantic_head": build_sem_seg_head(cfg, shapes) if "semantic" in tasks else None,
            "caption_head": build_caption_head(cfg, shapes) if "caption" in tasks else None,
            "panoptic": PanopticMerger.from_config(cfg) if both else None,
            "tokenizer": Tokenizer.load(cfg.TOKENIZER.MODEL) if cfg.TOKENIZER.MODEL else None,
            "weak_view_tasks": weak_view_tasks,
            "weak_bn": cfg.MODEL.YOLOR.WEAK_BN,
            "pad": cfg.MODEL.YOLOR.PAD,
            "full_logits": cfg.MODEL.SEM_SEG_HEAD.FULL_LOGITS,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def heads(self) -> dict[str, Any]:
        """The heads that exist, by their tasks."""
        heads = {
            "detection": self.detection_head,
            "mask": self.mask_head,
            "semantic": self.semantic_head,
            "caption": self.caption_head,
        }
        return {task: head for task, head in heads.items() if head is not None}

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batch: Sequence[Sample], reward: Reward | None = None) -> Any:
        """Weighted losses in training, results at inference.

        Args:
            batch: samples of the mapper. In training: "image" and "weak_image" (3, h, w), as far as
                some task reads them, and whatever is known of "instances", "sem_seg" and
                "caption_ids", of the weak view with the prefix "weak_". At inference: "image" of
                any size, and the "height" and "width" that the results shall have.
            reward: of sampled captions in self-critical training.

        Returns:
            In training: {"loss_...": scalar}. At inference, for each image what the heads
            give of "instances" (with pred_boxes, scores, pred_classes, pred_masks), "sem_seg"
            (anything whose argmax over axis 0 gives labels), "panoptic_seg" (a map of ids and their
            description), "caption" (text), "caption_ids" and "caption_score".
        """
        return self.training_losses(batch, reward) if self.training else self.inference(batch)

    def training_losses(
        self, batch: Sequence[Sample], reward: Reward | None = None
    ) -> dict[str, Tensor]:
        """Weighted losses, also of a network in evaluation mode, which then stays as it is."""
        measured = self._learning_tasks()
        prefixes = {STRONG: self.strong_tasks & measured, WEAK: self.weak_tasks & measured}
        views = [
            make_view(batch, prefix=p, tasks=t, divisor=self.canvas_divisor, device=self.device)
            for p, t in prefixes.items()
            if t
        ]
        losses: dict[str, Tensor] = {}
        rewarded = {} if reward is None else {"reward": reward}
        for view, features in zip(views, self.trunk(views), strict=True):
            losses |= self.losses(batch, view, features, **rewarded)
        return losses

    def _learning_tasks(self) -> frozenset[str]:
        """In training those from which some parameter learns; masks are of detected objects."""
        if not self.training or learns(self.backbone):
            return frozenset(self.heads)
        learning = {task for task, head in self.heads.items() if learns(head)}
        return frozenset(learning | {"detection"} if "mask" in learning else learning)

    def trunk(self, views: Sequence[View]) -> list[Features]:
        """Backbone and neck on each view, in one pass where the canvases are equal."""
        wanted = [self.in_features(view.tasks) for view in views]
        if len({view.size for view in views}) < len(views) and self._may_join_views():
            strong, weak = views
            both = self.extract(torch.cat([strong.images, weak.images]), wanted[0] | wanted[1])
            count = len(strong.images)
            return [
                {name: both[name][:count] for name in wanted[0]},
                {name: both[name][count:] for name in wanted[1]},
            ]
        passes = []
        for view, names in zip(views, wanted, strict=True):
            frozen = self.weak_bn == "frozen" and view.is_weak
            with norm_momentum(self.backbone, 0.0) if frozen else nullcontext():
                passes.append(self.extract(view.images, names))
        return passes

    def _may_join_views(self) -> bool:
        """Whether one pass is as good as two; processes that share statistics all make two."""
        shares = any(isinstance(m, nn.SyncBatchNorm) for m in self.backbone.modules())
        return self.weak_bn == "update" and not shares

    @property
    def _tells_objects(self) -> bool:
        """Whether captions are told of objects."""
        return "detection" in self.heads and getattr(self.caption_head, "regions", None) is not None

    def in_features(self, tasks: frozenset[str]) -> set[str]:
        """The maps that the heads of some tasks read."""
        if "caption" in tasks and self._tells_objects:
            tasks |= {"detection"}
        return {name for task in tasks for name in self.heads[task].in_features}

    def extract(self, images: Tensor, names: set[str]) -> Features:
        """The maps of normalised images. Our own backbones compute no more than what is asked."""
        normalized = (images - self.pixel_mean) / self.pixel_std  # (N, 3, H, W)
        if isinstance(self.backbone, PAN | YOLORELAN):
            return self.backbone(normalized, names)
        return self.backbone(normalized)

    def losses(
        self,
        batch: Sequence[Sample],
        view: View,
        features: Features,
        reward: Reward | None = None,
    ) -> dict[str, Tensor]:
        """What the tasks of a view have to learn from it."""
        losses: dict[str, Tensor] = {}
        device, points, truth = self.device, None, None
        if self.detection_head is not None and "detection" in view.tasks:
            instances = view_instances(batch, view)
            objects = Objects.from_instances(instances, device=device)
            truth = None if None in instances else objects
            points = self.detection_head(features)
            assignment = self.detection_head.assign(points, objects)
            losses |= self.detection_head.losses(points, objects, assignment)
            if self.mask_head is not None:
                targets = view_masks(instances, view, device=device)
                outlines = self.mask_head(features)
                losses |= self.mask_head.losses(outlines, objects, assignment, targets)
        if self.semantic_head is not None and "semantic" in view.tasks:
            ignore = self.semantic_head.ignore_value
            labels = view_sem_seg(batch, view, ignore_value=ignore, device=device)
            with asked_for_losses(self.semantic_head):
                losses |= self.semantic_head(features, labels)[1]
        if self.caption_head is not None and "caption" in view.tasks:
            ids, known = caption_ids(batch, pad_id=self.caption_head.pad_id, device=device)
            tokens = self.visual_tokens(features, view.contents, points, truth)
            assert tokens is not None
            captions = CaptionTargets(ids, known, [sample.get("image_id") for sample in batch])
            rewarded = {} if reward is None else {"reward": reward}
            losses |= self.caption_head.losses(tokens, captions, **rewarded)
        return losses

    @torch.no_grad()
    def inference(self, batch: Sequence[Sample]) -> list[dict[str, Any]]:
        """Results of images of any sizes; those of one canvas size go through together."""
        results: dict[int, dict[str, Any]] = {}
        for numbers in same_canvas(batch, divisor=self.canvas_divisor):
            samples = [batch[number] for number in numbers]
            images = [sample["image"].to(self.device) for sample in samples]
            canvas, contents = pad_images(images, divisor=self.canvas_divisor, mode=self.pad)
            raw = self.raw_outputs(canvas, contents)
            frames = make_frames(samples, contents, canvas)
            results |= zip(numbers, self.results(raw, frames), strict=True)
        return [results[number] for number in range(len(batch))]

    def raw_outputs(self, images: Tensor, contents: Contents = None) -> RawOutputs:
        """What the heads say of padded images (N, 3, H, W), values 0..255, in pure tensors.

        Args:
            images: of a size that the network takes, sides multiples of `canvas_divisor`.
            contents: where each image lies on its canvas, also as (N, 4) left, top, width, height;
                None: everywhere.
        """
        features = self.extract(images, self.in_features(frozenset(self.heads)))
        points = self.detection_head(features) if self.detection_head is not None else None
        return RawOutputs(
            points=points,
            outlines=self.mask_head(features) if self.mask_head is not None else None,
            semantic=self.semantic_logits(features),
            tokens=self.visual_tokens(features, contents, points),
        )

    def visual_tokens(
        self,
        features: Features,
        contents: Contents,
        points: PointPredictions | None = None,
        objects: Objects | None = None,
    ) -> VisualTokens | None:
        """What captions are made from; None without a caption head.

        Args:
            features: the maps.
            contents: where each image lies on its canvas; None: everywhere.
            points: what the detection head says of the maps, if that is known.
            objects: the true ones, to learn from; None: those that are found.
        """
        head, detector = self.caption_head, self.detection_head
        if head is None:
            return None
        if detector is None or not self._tells_objects:
            return head(features, contents)
        if points is None:
            # Captions listen to the detection head; they neither teach it nor move its statistics.
            with torch.no_grad(), norm_momentum(detector, 0.0):
                points = detector(features)
        regions = (
            found_regions(points.logits, detector.boxes(points), count=head.max_regions)
            if objects is None
            else true_regions(objects, count=head.max_regions, num_classes=points.logits.shape[2])
        )
        return head(features, contents, regions)

    def semantic_logits(self, features: Features) -> Tensor | None:
        """Logits (N, S, h, w): at the stride of our own heads, at the canvas's size of others."""
        if isinstance(self.semantic_head, SemanticHead):
            return self.semantic_head.logits(features)
        return None if self.semantic_head is None else self.semantic_head(features)[0]

    def results(self, raw: RawOutputs, frames: Sequence[Frame]) -> list[dict[str, Any]]:
        """Raw outputs as each image's results."""
        results: list[dict[str, Any]] = [{} for _ in frames]
        if self.detection_head is not None and raw.points is not None:
            for number, found in enumerate(self.detection_head.inference(raw.points)):
                results[number]["instances"] = place_instances(
                    found, frames[number], self.mask_head, raw.outlines, image=number
                )
        if raw.semantic is not None:
            for result, logits, frame in zip(results, raw.semantic, frames, strict=True):
                result["sem_seg"] = place_map(logits, frame, full_logits=self.full_logits)
        if self.panoptic is not None:
            for result in results:
                result["panoptic_seg"] = self.panoptic(result["instances"], result["sem_seg"])
        if self.caption_head is not None and raw.tokens is not None:
            captions = [field.tolist() for field in self.caption_head.generate(raw.tokens)]
            for result, ids, score, length in zip(results, *captions, strict=True):
                result["caption_ids"] = ids[:length]
                result["caption_score"] = score
                if self.tokenizer is not None:
                    result["caption"] = self.tokenizer.decode(result["caption_ids"])
        return results
