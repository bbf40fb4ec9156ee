"""The experiments: what is trained in each row, what each table claims, and the paper's numbers.

The paper is "YOLOR-Based Multi-Task Learning" (arXiv 2309.16921).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A number of metrics.json, and how it is printed; better if higher."""

    key: str
    label: str
    digits: int = 1
    scale: float = 1.0


BOX, MASK = Metric("bbox/AP", "box AP"), Metric("segm/AP", "mask AP")
BOX_SMALL = Metric("bbox/APs", "box AP of small objects")
MIOU, FWIOU = Metric("sem_seg/mIoU", "mIoU"), Metric("sem_seg/fwIoU", "fwIoU")
PQ = Metric("panoptic_seg/PQ", "PQ")
BLEU = Metric("caption/Bleu_4", "BLEU-4", scale=100.0)  # in percent, as in the paper
CIDER = Metric("caption/CIDEr", "CIDEr", digits=2)

MAIN = (BOX, MASK, MIOU, PQ, CIDER, BLEU)


@dataclass(frozen=True)
class Variant:
    """A change of the baseline's configuration.

    Attributes:
        name: of its runs, and of a file in the folder `ablations` beside the baseline's
            configuration, which then takes the place of the overrides.
        overrides: KEY, VALUE of the configuration.
    """

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Row:
    label: str
    variant: Variant
    paper: Mapping[Metric, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """Says that one variant is better than another, or not worse.

    Attributes:
        text: the claim in words.
        better, worse: the variants.
        metric: that is compared.
        equal: whether the claim is only that `better` is not worse.
        paper: difference in the paper; None: it is not the paper's claim, or has no number there.
    """

    text: str
    better: Variant
    worse: Variant
    metric: Metric
    equal: bool = False
    paper: float | None = None


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    metrics: tuple[Metric, ...] = MAIN
    note: str = ""

    @property
    def variants(self) -> list[Variant]:
        return [row.variant for row in self.rows]


def tasks(name: str, *included: str) -> Variant:
    return Variant(f"tasks_{name}", {"MODEL.YOLOR.TASKS": list(included)})


def weights(semantic: float, caption: float) -> Variant:
    keys = ("MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", "MODEL.CAPTION_HEAD.LOSS_WEIGHT")
    return Variant(
        f"weights_{semantic:g}_{caption:g}", dict(zip(keys, (semantic, caption), strict=True))
    )


BASELINE = Variant("baseline")

DET_SEG = tasks("det_seg", "detection", "mask")
DET_SEM = tasks("det_sem", "detection", "semantic")
DET_CAP = tasks("det_cap", "detection", "caption")
SEG_SEM = tasks("seg_sem", "detection", "mask", "semantic")
SEG_CAP = tasks("seg_cap", "detection", "mask", "caption")
SEM_CAP = tasks("sem_cap", "semantic", "caption")
DET_SEM_CAP = tasks("det_sem_cap", "detection", "semantic", "caption")

AUG_STRONG = Variant("aug_strong", {"INPUT.WEAK_VIEW_TASKS": []})
AUG_WEAK_SEM = Variant("aug_weak_semantic", {"INPUT.WEAK_VIEW_TASKS": ["semantic", "caption"]})

LR_10_1 = Variant("lr_10_1", {"SOLVER.LR_FACTORS": [["caption_head", 0.1]]})
LR_1_10 = Variant("lr_1_10", {"SOLVER.LR_FACTORS": [["backbone", 0.1]]})

PLAIN = {"MODEL.SEM_SEG_HEAD.NAME": "PlainSemanticHead"}
SEM_SINGLE = Variant("sem_single_scale", PLAIN | {"MODEL.SEM_SEG_HEAD.UPSAMPLE": False})
SEM_SINGLE_UP = Variant("sem_single_scale_up", PLAIN | {"MODEL.SEM_SEG_HEAD.UPSAMPLE": True})
SEM_MULTI = Variant(
    "sem_multi_scale",
    {
        "MODEL.SEM_SEG_HEAD.NAME": "MultiScaleSemanticHead",
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p3", "p4", "p5"],
    },
)

CAP_ENCODER = Variant("cap_full_transformer", {"MODEL.CAPTION_HEAD.ENCODER_LAYERS": 2})

IMPLICIT_OFF = Variant("implicit_off", {"MODEL.YOLOR.IMPLICIT": False})
IMPLICIT_TOWER = Variant("implicit_tower", {"MODEL.YOLOR.IMPLICIT_PLACEMENT": "tower"})

GELAN = Variant(  # as in configs/toy/gelan_t_toy.yaml
    "gelan_t",
    {
        "MODEL.BACKBONE.NAME": "build_gelan_pan_backbone",
        "MODEL.GELAN.SIZE": "t",
        "MODEL.GELAN.WIDTH": 1.1,
        "MODEL.GELAN.DEPTH": 0.34,
    },
)

SECOND_SET = {"MODEL.DETECTION_HEAD.NAME": "OneToOneHead"}
ONE_TO_ONE = Variant("one_to_one", SECOND_SET)
PROGRESSIVE = Variant(
    "one_to_one_progressive",
    SECOND_SET
    | {
        "SOLVER.LOSS_FACTORS": [
            *([f"loss_{name}", 1.6, 0.4] for name in ("cls", "box", "dfl")),
            ["loss_*_one_to_one", 0.4, 1.6],
        ]
    },
)
SMALL_OBJECTS = Variant(
    "one_to_one_small_objects", SECOND_SET | {"MODEL.DETECTION_HEAD.ASSIGN.MIN_SIDE": 16.0}
)

BATCH_PARTNERS = Variant("batch_partners", {"INPUT.STRONG.PARTNERS": "batch"})

FLOAT32 = Variant(
    "float32",
    {"SOLVER.CPU": "keys", "SOLVER.AMP.ENABLED": False, "MODEL.YOLOR.CHANNELS_LAST": True},
)

MUON_KEYS = {"SOLVER.OPTIMIZER": "MUON", "SOLVER.MOMENTUM": 0.95}
MUON = Variant("muon", MUON_KEYS)
MUON_SHORTER = Variant(  # a step takes longer, on a CPU
    "muon_640_steps",
    MUON_KEYS | {"SOLVER.MAX_ITER": 640, "TEST.EVAL_PERIOD": 320, "INPUT.CLOSE_MOSAIC_ITERS": 128},
)

GRADIENT_SHARES = Variant(
    "gradient_shares",
    {"SOLVER.GRADIENT_SHARES": [["detection", 4], ["mask", 2], ["semantic", 2], ["caption", 2]]},
)
WEIGHTS_8_3, WEIGHTS_2_1, WEIGHTS_HALF_1 = weights(8.0, 3.0), weights(2.0, 1.0), weights(0.5, 1.0)

TASKS = Table(
    "tasks",
    "Tasks together and apart",
    rows=(
        Row("boxes, masks, semantic map, captions", BASELINE, {BLEU: 20.7}),
        Row("boxes, masks", DET_SEG),
        Row("boxes, semantic map", DET_SEM),
        Row("boxes, captions", DET_CAP),
        Row("boxes, masks, semantic map", SEG_SEM),
        Row("boxes, masks, captions", SEG_CAP, {BLEU: 20.6}),
        Row("semantic map, captions", SEM_CAP, {BLEU: 5.9}),
        Row("boxes, semantic map, captions", DET_SEM_CAP),
    ),
    claims=(
        Claim(
            "captions need boxes and masks beside the semantic map",
            *(BASELINE, SEM_CAP, BLEU),
            paper=14.8,
        ),
        Claim("captions gain from the semantic map", BASELINE, SEG_CAP, BLEU, paper=0.1),
        Claim("boxes lose nothing to the map and the captions", BASELINE, DET_SEG, BOX, equal=True),
        Claim("the map loses nothing to the captions", BASELINE, SEG_SEM, MIOU, equal=True),
        Claim("masks help boxes", SEG_SEM, DET_SEM, BOX),
    ),
    note="Paper: 20 of 60 epochs on COCO; its numbers for the other rows were not at hand.",
)

AUGMENTATION = Table(
    "augmentation",
    "Augmentation of the caption's view",
    rows=(
        Row("strong for all", AUG_STRONG, {BOX: 31.4, MASK: 25.3, FWIOU: 48.1, BLEU: 7.0}),
        Row("weak for captions", BASELINE, {BOX: 35.6, MASK: 28.8, FWIOU: 53.5, BLEU: 16.2}),
        Row("weak for captions and semantic map", AUG_WEAK_SEM),
    ),
    claims=(
        Claim("a weak view for captions helps captions", BASELINE, AUG_STRONG, BLEU, paper=9.2),
        Claim("it helps boxes, too", BASELINE, AUG_STRONG, BOX, paper=4.2),
        Claim("it helps masks, too", BASELINE, AUG_STRONG, MASK, paper=3.5),
        Claim("it helps the semantic map, too", BASELINE, AUG_STRONG, FWIOU, paper=5.4),
        Claim("the semantic map is better off with the strong view", BASELINE, AUG_WEAK_SEM, FWIOU),
    ),
    metrics=(BOX, MASK, MIOU, FWIOU, PQ, CIDER, BLEU),
    note="The paper's number for the third row was not at hand.",
)

LEARNING_RATES = Table(
    "learning_rates",
    "Learning rates of image encoder and text decoder",
    rows=(Row("10 : 1", LR_10_1), Row("1 : 1", BASELINE), Row("1 : 10", LR_1_10)),
    claims=(
        Claim("1 : 1 gives better captions than 10 : 1", BASELINE, LR_10_1, BLEU),
        Claim("1 : 1 gives better captions than 1 : 10", BASELINE, LR_1_10, BLEU),
        Claim("1 : 1 gives better boxes than 1 : 10", BASELINE, LR_1_10, BOX),
    ),
    note="The paper found 1 : 1 best of its ratios; 10 : 1 and 1 : 10 are our choice of others.",
)

SEMANTIC_HEAD = Table(
    "semantic_head",
    "Semantic head: one map or three",
    rows=(
        Row("three maps, stride 8", SEM_MULTI, {FWIOU: 19.79}),
        Row("finest map, stride 8", SEM_SINGLE, {FWIOU: 55.55}),
        Row("finest map, enlarged to stride 4", SEM_SINGLE_UP, {FWIOU: 56.44}),
        Row("the same after a 3 x 3 convolution (ours)", BASELINE),
    ),
    claims=(
        Claim("one map is better than three", SEM_SINGLE, SEM_MULTI, FWIOU, paper=35.76),
        Claim("enlarging helps", SEM_SINGLE_UP, SEM_SINGLE, FWIOU, paper=0.89),
        Claim("the 3 x 3 convolution helps", BASELINE, SEM_SINGLE_UP, FWIOU),
    ),
    metrics=(BOX, MASK, MIOU, FWIOU, PQ, CIDER, BLEU),
)

CAPTION_HEAD = Table(
    "caption_head",
    "Caption head: decoder alone or with encoder",
    rows=(Row("decoder alone", BASELINE), Row("encoder and decoder", CAP_ENCODER)),
    claims=(
        Claim("the decoder alone is as good", BASELINE, CAP_ENCODER, BLEU, equal=True),
        Claim("boxes are as good", BASELINE, CAP_ENCODER, BOX, equal=True),
    ),
    note="The paper keeps the decoder alone, which is smaller and trains faster.",
)

IMPLICIT = Table(
    "implicit",
    "Implicit knowledge",
    rows=(
        Row("none", IMPLICIT_OFF),
        Row("around the last convolution (ours)", BASELINE),
        Row("before the tower (yolov7-u6)", IMPLICIT_TOWER),
    ),
    claims=(
        Claim("implicit knowledge helps boxes", BASELINE, IMPLICIT_OFF, BOX),
        Claim("implicit knowledge helps the semantic map", BASELINE, IMPLICIT_OFF, MIOU),
        Claim("ours is as good as before the tower", BASELINE, IMPLICIT_TOWER, BOX, equal=True),
    ),
)

BACKBONE = Table(
    "backbone",
    "YOLOR-ELAN and GELAN-t at about equal GFLOPs",
    rows=(Row("YOLOR-ELAN", BASELINE), Row("GELAN-t", GELAN)),
    claims=(
        Claim("GELAN gives better boxes", GELAN, BASELINE, BOX),
        Claim("GELAN gives better captions", GELAN, BASELINE, CIDER),
    ),
)

ASSIGNMENT = Table(
    "assignment",
    "One-to-many and one-to-one predictions",
    rows=(
        Row("one-to-many, suppressed", BASELINE),
        Row("one-to-one, without suppression", ONE_TO_ONE),
        Row("the same, loss weights shift from one-to-many to one-to-one", PROGRESSIVE),
        Row("the same, boxes below 16 px enlarged for the choice of points", SMALL_OBJECTS),
    ),
    claims=(
        Claim("one-to-many gives better boxes", BASELINE, ONE_TO_ONE, BOX),
        Claim("shifting loss weights give better boxes", PROGRESSIVE, ONE_TO_ONE, BOX),
        Claim("enlarged candidates give better boxes", SMALL_OBJECTS, ONE_TO_ONE, BOX),
        Claim("enlarged candidates find small objects", SMALL_OBJECTS, ONE_TO_ONE, BOX_SMALL),
    ),
    note="Published for gyolo on COCO: 52.8 with and 52.4 box AP without suppression.",
)

LOSS_WEIGHTS = Table(
    "loss_weights",
    "Loss weights of semantic map and captions",
    rows=(
        Row("8, 3", WEIGHTS_8_3),
        Row("2, 1", WEIGHTS_2_1),
        Row("1, 1", BASELINE),
        Row("0.5, 1", WEIGHTS_HALF_1),
        Row("1, 1, with shares 4, 2, 2, 2 of the gradient", GRADIENT_SHARES),
        Row("boxes and masks alone", DET_SEG),
    ),
    claims=(
        Claim("1, 1 gives better boxes than 8, 3", BASELINE, WEIGHTS_8_3, BOX),
        Claim("8, 3 gives a better semantic map", WEIGHTS_8_3, BASELINE, MIOU),
        Claim("8, 3 gives better captions", WEIGHTS_8_3, BASELINE, CIDER),
        Claim("shares give better boxes", GRADIENT_SHARES, BASELINE, BOX),
        Claim("shares give a better semantic map", GRADIENT_SHARES, BASELINE, MIOU),
        Claim("shares give better captions", GRADIENT_SHARES, BASELINE, CIDER),
    ),
)

OPTIMIZER = Table(
    "optimizer",
    "AdamW and Muon",
    rows=(
        Row("AdamW, 800 steps", BASELINE),
        Row("Muon, 800 steps", MUON),
        Row("Muon, 640 steps", MUON_SHORTER),
    ),
    claims=(
        Claim("Muon gives better boxes in fewer steps", MUON_SHORTER, BASELINE, BOX),
        Claim("Muon gives a better semantic map in fewer steps", MUON_SHORTER, BASELINE, MIOU),
        Claim("Muon gives better captions in fewer steps", MUON_SHORTER, BASELINE, CIDER),
    ),
)

PARTNERS = Table(
    "partners",
    "Other images of a mosaic: from the data set or from the batch",
    rows=(Row("data set", BASELINE), Row("batch", BATCH_PARTNERS)),
    claims=(
        Claim("the batch gives boxes that are as good", BATCH_PARTNERS, BASELINE, BOX, equal=True),
        Claim("masks are as good", BATCH_PARTNERS, BASELINE, MASK, equal=True),
        Claim("the semantic map is as good", BATCH_PARTNERS, BASELINE, MIOU, equal=True),
    ),
    note="With partners from the batch, each file is decoded once per batch.",
)

PRECISION = Table(
    "precision",
    "Training in bf16 and in float32",
    rows=(Row("bf16", BASELINE), Row("float32", FLOAT32)),
    claims=(
        Claim("boxes are as good in bf16", BASELINE, FLOAT32, BOX, equal=True),
        Claim("the semantic map is as good", BASELINE, FLOAT32, MIOU, equal=True),
        Claim("captions are as good", BASELINE, FLOAT32, CIDER, equal=True),
    ),
    note="The baseline's precision is that of the processor (SOLVER.CPU), here bf16.",
)

TABLES = (
    *(TASKS, AUGMENTATION, LEARNING_RATES, SEMANTIC_HEAD, CAPTION_HEAD),
    *(LOSS_WEIGHTS, IMPLICIT, BACKBONE, ASSIGNMENT, OPTIMIZER, PARTNERS, PRECISION),
)


def variants_of(tables: Iterable[Table]) -> list[Variant]:
    """The variants of tables in order, each once."""
    return list(dict.fromkeys(variant for table in tables for variant in table.variants))
