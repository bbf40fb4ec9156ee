"""YOLOR: one trunk, up to four heads, two views of an image in training."""

from collections.abc import Sequence
from contextlib import nullcontext
from math import lcm
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone, build_sem_seg_head
from torch import Tensor, nn

from ..checks import check_choice
from ..letterbox import Content, pad_images
from ..tasks import check_tasks
from ..tokenizer import Tokenizer
from .backbone import SIZE_DIVISIBILITY, SelectiveBackbone
from .caption_inputs import check_heads, encode, head_outputs, reads_outputs, tasks_read
from .heads import build_caption_head, build_detection_head, build_mask_head
from .heads.semantic import SemanticHead
from .layers import FrozenStatistics, is_trainable, training_flag
from .objects import Reward
from .panoptic import PanopticMerger
from .results import Frame, RawOutputs, in_float32, make_frames, place_instances, place_map
from .views import (
    STRONG,
    WEAK,
    Sample,
    Teacher,
    View,
    ViewOptions,
    check_pixels,
    group_by_canvas,
    make_view,
)

Features = dict[str, Tensor]
Contents = Sequence[Content] | Tensor | None


@META_ARCH_REGISTRY.register()
class YOLOR(nn.Module):
    """Boxes, masks, semantic maps and captions from one backbone.

    Each head exists or is None. A network with a mask head and a semantic head also predicts a
    panoptic map.

    Attributes:
        with_probabilities: whether semantic maps of labels have the probability of each label, at
            inference.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        detection_head: Any = None,
        mask_head: Any = None,
        semantic_head: Any = None,
        caption_head: Any = None,
        panoptic: PanopticMerger | None = None,
        tokenizer: Tokenizer | None = None,
        views: ViewOptions | None = None,
        full_logits: bool = False,
        precision: str = "fp32",
        pixel_mean: Sequence[float] = (0.0, 0.0, 0.0),
        pixel_std: Sequence[float] = (255.0, 255.0, 255.0),
    ) -> None:
        """
        Args:
            backbone: computes the feature maps that the heads read.
            detection_head, mask_head, semantic_head, caption_head: modules that keep the contracts
                of `heads/registry.py`.
            panoptic: merges instances and semantic map; needs both heads.
            tokenizer: decodes predicted token ids; without one, captions are ids only.
            views: which tasks train on the weak view, and how images are padded; None: the
                defaults.
            full_logits: return semantic logits at the size of the image instead of labels.
            precision: of backbone and heads at inference: "fp32" or "bf16".
            pixel_mean, pixel_std: of each channel, for pixels in 0..255.
        """
        super().__init__()
        self.backbone = backbone
        self.detection_head = detection_head
        self.mask_head = mask_head
        self.semantic_head = semantic_head
        self.caption_head = caption_head
        self.panoptic = panoptic
        self.tokenizer = tokenizer
        check_heads(self.heads)
        views = views or ViewOptions()
        check_tasks(sorted(self.heads), views.weak_view_tasks)
        self.weak_tasks = frozenset(views.weak_view_tasks) & frozenset(self.heads)
        self.strong_tasks = frozenset(self.heads) - self.weak_tasks
        views.check(strong_tasks=self.strong_tasks)
        check_pixels(pixel_mean, pixel_std)
        self.weak_bn = views.weak_bn
        self.pad = views.pad
        self.full_logits = full_logits
        check_choice("TEST.PRECISION", precision, ("fp32", "bf16"))
        self.precision = precision
        self.with_probabilities = False
        self.canvas_divisor = max(SIZE_DIVISIBILITY, backbone.size_divisibility)
        self.test_divisor = lcm(self.canvas_divisor, views.test_divisor)
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        tasks = cfg.MODEL.YOLOR.TASKS
        views = ViewOptions(
            weak_view_tasks=cfg.INPUT.WEAK_VIEW_TASKS,
            weak_bn=cfg.MODEL.YOLOR.WEAK_BN,
            pad=cfg.MODEL.YOLOR.PAD,
            test_divisor=cfg.MODEL.YOLOR.TEST_DIVISOR,
        )
        check_tasks(tasks, views.weak_view_tasks)
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
            "views": views,
            "full_logits": cfg.MODEL.SEM_SEG_HEAD.FULL_LOGITS,
            "precision": cfg.TEST.PRECISION,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def heads(self) -> dict[str, Any]:
        """The heads that exist, by task."""
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

    def forward(
        self,
        batch: Sequence[Sample],
        reward: Reward | None = None,
        teacher: Teacher | None = None,
    ) -> Any:
        """Weighted losses in training mode, results in evaluation mode.

        Args:
            batch: samples of the mapper. In training, the views that tasks train on, "image" and
                "weak_image" (3, h, w), and any of "instances", "sem_seg" and "caption_ids", for the
                weak view "weak_instances" and "weak_sem_seg". For inference, "image" of any size,
                and the "height" and "width" of the results.
            reward: of sampled captions, for self-critical training.
            teacher: another network to learn from as well.

        Returns:
            In training: {"loss_...": scalar}. For inference, for each image the heads' results:
            "instances" (with pred_boxes, scores, pred_classes, pred_masks), "sem_seg" (its argmax
            over axis 0 gives labels), "panoptic_seg" (a map of ids and their description),
            "caption" (text), "caption_ids" and "caption_score".
        """
        if self.training:
            return self.training_losses(batch, reward, teacher)
        return self.inference(batch)

    # --- training

    def training_losses(
        self,
        batch: Sequence[Sample],
        reward: Reward | None = None,
        teacher: Teacher | None = None,
    ) -> dict[str, Tensor]:
        """Weighted losses, in training or evaluation mode."""
        tasks_with_losses = self._tasks_with_losses()
        views = [
            self._make_view(batch, prefix, tasks & tasks_with_losses)
            for prefix, tasks in ((STRONG, self.strong_tasks), (WEAK, self.weak_tasks))
            if tasks & tasks_with_losses
        ]
        if teacher is not None:  # before the network's own activations take memory
            views = [view._replace(teacher=teacher(view)) for view in views]
        losses: dict[str, Tensor] = {}
        for view, features in zip(views, self.trunk(views), strict=True):
            losses |= self.losses(view, features, reward)
        return losses

    def _tasks_with_losses(self) -> frozenset[str]:
        """All tasks, but in training only those that train a parameter.

        Mask losses need the assignment of the detection head.
        """
        if not self.training or is_trainable(self.backbone):
            return frozenset(self.heads)
        trained = {task for task, head in self.heads.items() if is_trainable(head)}
        return frozenset(trained | {"detection"} if "mask" in trained else trained)

    def _make_view(self, batch: Sequence[Sample], prefix: str, tasks: frozenset[str]) -> View:
        padding: dict[str, int] = {}
        if "semantic" in tasks:
            padding["ignore_value"] = self.semantic_head.ignore_value
        if "caption" in tasks:
            padding["pad_id"] = self.caption_head.pad_id
        return make_view(
            batch,
            prefix=prefix,
            tasks=tasks,
            divisor=self.canvas_divisor,
            device=self.device,
            **padding,
        )

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
            with FrozenStatistics(self.backbone) if frozen else nullcontext():
                passes.append(self.extract(view.images, names))
        return passes

    def _may_join_views(self) -> bool:
        """Whether one pass can replace two; not with SyncBatchNorm.

        Whether canvases are equal can differ between processes, but the passes must not.
        """
        shares = any(isinstance(m, nn.SyncBatchNorm) for m in self.backbone.modules())
        return self.weak_bn == "update" and not shares

    def losses(
        self, view: View, features: Features, reward: Reward | None = None
    ) -> dict[str, Tensor]:
        """The losses of the tasks of a view."""
        losses: dict[str, Tensor] = {}
        outputs: dict[str, Any] = {}
        detection = None
        if "detection" in view.tasks:
            with training_flag(self.detection_head):
                detection = outputs["detection"] = self.detection_head(features)
            assignment = self.detection_head.assign(detection, view.objects)
            losses |= self.detection_head.losses(detection, view.objects, assignment)
            if "mask" in view.tasks:
                masks = outputs["mask"] = self.mask_head(features)
                losses |= self.mask_head.losses(masks, view.objects, assignment, view.masks)
        if "semantic" in view.tasks:
            kept = {"keep_logits": True} if "semantic" in view.teacher.heads else {}
            with training_flag(self.semantic_head):
                outputs["semantic"], found = self.semantic_head(features, view.labels, **kept)
            losses |= found
        if "caption" in view.tasks:
            objects = view.objects if view.objects_complete else None
            tokens = self.visual_tokens(
                features, view.contents, detection=detection, objects=objects
            )
            given = {"reward": reward, "teacher": view.teacher.text_logits}
            guides = {name: guide for name, guide in given.items() if guide is not None}
            losses |= self.caption_head.losses(tokens, view.captions, **guides)
        for task, taught in view.teacher.heads.items():
            losses |= self.heads[task].losses_against(outputs[task], *taught)
        return losses

    # --- shared by training and inference

    def in_features(self, tasks: frozenset[str]) -> set[str]:
        """The maps that the heads of these tasks read."""
        if "caption" in tasks:
            tasks = tasks.union(tasks_read(self.caption_head))
        return {name for task in tasks for name in self.heads[task].in_features}

    def extract(self, images: Tensor, names: set[str]) -> Features:
        """The maps of images (N, 3, H, W) in 0..255; our own backbones compute only these maps."""
        normalized = (images - self.pixel_mean) / self.pixel_std  # (N, 3, H, W)
        if isinstance(self.backbone, SelectiveBackbone):
            return self.backbone(normalized, names)
        return self.backbone(normalized)

    def visual_tokens(self, features: Features, contents: Contents, **known: Any) -> Any:
        """The caption head's encoding of the maps; None without one; see `encode`."""
        if self.caption_head is None:
            return None
        return encode(self.heads, features, contents, **known)

    # --- inference

    @torch.no_grad()
    def inference(self, batch: Sequence[Sample]) -> list[dict[str, Any]]:
        """Results of images of any sizes; images with the same canvas size are one batch."""
        results: dict[int, dict[str, Any]] = {}
        for indices in group_by_canvas(batch, divisor=self.test_divisor):
            samples = [batch[index] for index in indices]
            images = [sample["image"].to(self.device) for sample in samples]
            canvas, contents = pad_images(images, divisor=self.test_divisor, mode=self.pad)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                raw = in_float32(self.raw_outputs(canvas, contents))
            frames = make_frames(samples, contents, canvas)
            results |= zip(indices, self.results(raw, frames), strict=True)
        return [results[index] for index in range(len(batch))]

    def raw_outputs(self, images: Tensor, contents: Contents = None) -> RawOutputs:
        """The outputs of all heads for padded images (N, 3, H, W) in 0..255, as pure tensors.

        Args:
            images: with sides that are multiples of `canvas_divisor`.
            contents: the rectangle of each image on its canvas, also as (N, 4) left, top, width,
                height; None: the whole canvas.
        """
        features = self.extract(images, self.in_features(frozenset(self.heads)))
        detection = self.detection_head(features) if self.detection_head is not None else None
        outputs = None
        if reads_outputs(self.caption_head):
            outputs = head_outputs(self.heads, features, detection)
        return RawOutputs(
            detection=detection,
            mask=self.mask_head(features) if self.mask_head is not None else None,
            semantic=(
                self.semantic_logits(features)
                if outputs is None
                else self.semantic_head.predicted(outputs.semantic_logits)
            ),
            caption=self.visual_tokens(features, contents, detection=detection, outputs=outputs),
            extra=self.extra_outputs(features),
        )

    def semantic_logits(self, features: Features) -> Tensor | None:
        """Logits (N, S, h, w); those of heads of other projects have the size of the canvas."""
        if isinstance(self.semantic_head, SemanticHead):
            return self.semantic_head.logits(features)
        return None if self.semantic_head is None else self.semantic_head(features)[0]

    def extra_outputs(self, features: Features) -> dict[str, Any]:
        """Outputs of heads that a subclass adds; `results` finds them in `RawOutputs.extra`."""
        return {}

    def results(self, raw: RawOutputs, frames: Sequence[Frame]) -> list[dict[str, Any]]:
        """Results of each image, from the raw outputs."""
        results: list[dict[str, Any]] = [{} for _ in frames]
        if self.detection_head is not None and raw.detection is not None:
            for index, found in enumerate(self.detection_head.inference(raw.detection)):
                results[index]["instances"] = place_instances(
                    found, frames[index], self.mask_head, raw.mask, image=index
                )
        if raw.semantic is not None:
            for result, logits, frame in zip(results, raw.semantic, frames, strict=True):
                result["sem_seg"] = place_map(
                    logits,
                    frame,
                    full_logits=self.full_logits,
                    with_probabilities=self.with_probabilities,
                )
        if self.panoptic is not None:
            for result in results:
                result["panoptic_seg"] = self.panoptic(result["instances"], result["sem_seg"])
        if self.caption_head is not None and raw.caption is not None:
            for result, caption in zip(results, self.captions(raw.caption), strict=True):
                result |= caption
        return results

    def captions(self, tokens: Any) -> list[dict[str, Any]]:
        """Captions of the images that the caption head has encoded; none without the head."""
        if self.caption_head is None:
            return []
        captions = []
        fields = (field.tolist() for field in self.caption_head.generate(tokens))
        for ids, score, length in zip(*fields, strict=True):
            caption = {"caption_ids": ids[:length], "caption_score": score}
            if self.tokenizer is not None:
                caption["caption"] = self.tokenizer.decode(caption["caption_ids"])
            captions.append(caption)
        return captions
