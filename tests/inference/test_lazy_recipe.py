"""A LazyConfig's network is predicted with from its checkpoint alone, of which nothing is run."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from detectron2.config import LazyCall, LazyConfig, instantiate
from omegaconf import OmegaConf

from yolor_d2 import Predictor
from yolor_d2.checkpoint.saving import load_checkpoint, save_checkpoint
from yolor_d2.data.views.mapper import make_test_image
from yolor_d2.engine.provenance import build_provenance
from yolor_d2.inference.lazy_recipe import parse_lazy
from yolor_d2.inference.media import to_picture
from yolor_d2.model_zoo import config_folder
from yolor_d2.modeling import GELANPAN, deploy
from yolor_d2.modeling.backbone import gelan_pan_shapes
from yolor_d2.tokenizer import Tokenizer
from yolor_d2.tools import evaluate, export

from ..saved_networks import NAME, Saved, make_responsive, own_scenes

FILE = config_folder() / "lazy/yolor_elan_mtl.py"
HEADS = ("detection", "mask", "semantic", "caption")
SMALL = [
    *("model.backbone.width=0.125", "model.backbone.depth=0.25", "test_mapper.test_size=96"),
    *(f"model.{head}_head.input_shape.width=0.125" for head in HEADS),
    *("model.detection_head.num_classes=10", "model.semantic_head.num_classes=19"),
    *("model.caption_head.vocabulary.vocab_size=200", "model.caption_head.sizes.dim=64"),
    *("model.caption_head.sizes.decoder_layers=1", "run.eval_weights=raw"),
    *("model.caption_head.regions.region_feature=p3", "model.caption_head.regions.num_classes=10"),
    *(f"model.panoptic.thing_to_panoptic={[*range(10)]}", "model.panoptic.stuff_area_limit=1"),
    f"model.panoptic.leaf_to_panoptic={[-1] * 10 + [*range(10, 19)]}",
    *(f"data.train=[{NAME}]", f"data.test=[{NAME}]", "data.num_workers=0"),
    "evaluators.meteor=False",
]


class Lazy(NamedTuple):
    """A checkpoint, the network in it, and a file with the same LazyConfig."""

    path: Path
    model: Any
    file: Path


@pytest.fixture(scope="module")
def lazy(saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> Lazy:
    folder = tmp_path_factory.mktemp("lazy")
    cfg = LazyConfig.load(str(FILE))
    LazyConfig.apply_overrides(cfg, SMALL)
    proto = load_checkpoint(saved.path)["tokenizer"]
    tokenizer = Tokenizer(proto.numpy().tobytes())
    torch.manual_seed(0)
    model = instantiate({**cfg.model, "tokenizer": tokenizer})
    model.caption_head.vocabulary = model.caption_head.vocabulary._replace(usable=len(tokenizer))
    make_responsive(model, saved.images)
    with own_scenes(saved.path.parent / "scenes"):
        provenance = build_provenance(LazyConfig.to_py(cfg), [NAME])
    content = {"iteration": 0, "model": model.state_dict(), "tokenizer": proto}
    save_checkpoint(content | {"provenance": provenance}, folder / "model.pth")
    (folder / "config.py").write_text(
        f"from detectron2.config import LazyConfig\ncfg = LazyConfig.load({str(FILE)!r})\n"
        f"LazyConfig.apply_overrides(cfg, {SMALL!r})\n"
        "model, test_mapper, data, run, init = (\n"
        "    cfg[name] for name in ('model', 'test_mapper', 'data', 'run', 'init'))\n"
    )
    return Lazy(folder / "model.pth", deploy(model), folder / "config.py")


@pytest.mark.parametrize("kind", ["checkpoint", "file", "object"])
def test_results_equal_the_networks(lazy: Lazy, saved: Saved, kind: str) -> None:
    source: Any = {"checkpoint": lazy.path, "file": lazy.file}.get(kind)
    source = LazyConfig.load(str(lazy.file)) if source is None else source
    weights = None if kind == "checkpoint" else lazy.path
    predictor = Predictor(source, weights=weights, device="cpu", score_threshold=0.3)
    picture = to_picture(saved.images[0])
    image = make_test_image(picture.pixels, size=96, image_format="RGB")
    height, width = picture.pixels.shape[:2]
    expected = lazy.model([{"image": image, "height": height, "width": width}])[0]
    kept = expected["instances"][expected["instances"].scores > 0.3]

    found = predictor(picture.pixels)
    assert len(found.instances) > 0
    torch.testing.assert_close(found.instances.scores, kept.scores)
    torch.testing.assert_close(found.instances.pred_boxes.tensor, kept.pred_boxes.tensor)
    torch.testing.assert_close(found.sem_seg.argmax(dim=0), expected["sem_seg"].argmax(dim=0))
    assert found.caption == expected["caption"]
    assert found.panoptic_seg is not None
    assert found.to_json()["instances"][0]["category_name"] in predictor.metadata.thing_classes
    assert predictor.metadata.thing_classes[0] == "ball"


def test_export(lazy: Lazy, tmp_path: Path) -> None:
    arguments = ["--weights", str(lazy.path), "--output", str(tmp_path), "--format", "torchscript"]
    assert export.main([*arguments, "model.detection_head.suppression.nms_thresh=0.3"]) == 0
    facts = json.loads((tmp_path / "model.json").read_text())
    assert (facts["input"]["size"], facts["detection"]["nms_threshold"]) == (96, 0.3)
    assert facts["graphs"].keys() == {"vision", "caption_start", "caption_step"}
    assert facts["class_ids"]["thing_classes"] == [*range(1, 11)]


def test_evaluation(lazy: Lazy, saved: Saved, tmp_path: Path) -> None:
    """On the data sets of the configuration; its evaluators' settings are kept."""
    flags = ["--weights", str(lazy.path), "--output", str(tmp_path), "--device", "cpu"]
    with own_scenes(saved.path.parent / "scenes"):
        assert evaluate.main(flags) == 0
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        results = tmp_path / "inference" / NAME / "coco_instances_results.json"
        assert json.loads(results.read_text())
        assert evaluate.main([*flags, "model.detection_head.suppression.score_thresh=1.0"]) == 0
    assert metrics["sem_seg/mIoU"] > 0
    assert {"bbox/AP", "segm/AP", "panoptic_seg/PQ", "caption/CIDEr"} <= metrics.keys()
    assert "caption/METEOR" not in metrics
    assert json.loads(results.read_text()) == []
    with pytest.raises(SystemExit):
        evaluate.main(flags)  # the data set is not registered


def test_some_tasks_and_options(lazy: Lazy, saved: Saved) -> None:
    """Captions of this network use detected objects, also without the detection task."""
    options = ["model.caption_head.decoding.max_tokens=3"]
    some = Predictor(lazy.path, device="cpu", tasks=["caption"], opts=options)
    assert set(some.model.heads) == {"detection", "caption"}
    found = some(saved.images[0])
    assert set(found.results) == {"caption", "caption_score"}
    assert some.model.caption_head.decoding.max_tokens == 3
    assert found.caption != Predictor(lazy.path, device="cpu")(saved.images[0]).caption
    with pytest.raises(ValueError, match=r"MODEL\.YOLOR\.TASKS has boxes"):
        Predictor(lazy.path, device="cpu", tasks=["boxes"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("run.max_iter=3", r"must be model\.NAME=VALUE"),
        ("model.nothing.at_all=3", r"must be model\.NAME=VALUE"),
        ("MODEL.DEVICE", r"must be model\.NAME=VALUE"),
        ("model.mask_head.nonsense=3", "cannot be built: .*nonsense"),
        ("model.backbone.width=0.25", "check MODEL.YOLOR_ELAN.WIDTH"),
    ],
)
def test_invalid_options_are_named(lazy: Lazy, option: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictor(lazy.path, device="cpu", opts=[option])


@pytest.mark.parametrize(
    "text",
    [
        'os.system(command="touch {}")',
        "{{'_target_': 'os.system', 'command': 'touch {}'}}",
        'yolor_d2.modeling.YOLOR(backbone=[os.system(command="touch {}")])',
        'yolor_d2.modeling.YOLOR(_target_="os.system", command="touch {}")',
        'yolor_d2.modeling.meta_arch.torch.load(f="{}")',
        'yolor_d2.files.replace_file(path="{}", content="")',
    ],
)
def test_only_parts_of_our_networks_are_called(lazy: Lazy, tmp_path: Path, text: str) -> None:
    """Neither other programs, nor functions that our modules import."""
    content = load_checkpoint(lazy.path)
    mapper = "cfg.test_mapper = yolor_d2.data.MultiTaskMapper()\n"
    trace = tmp_path / "trace"
    content["provenance"]["config"] = f"{mapper}cfg.model = {text.format(trace)}\n"
    save_checkpoint(content, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth: \S+ is not part of yolor_d2's networks"):
        Predictor(tmp_path / "evil.pth", device="cpu")
    assert not trace.exists()


@pytest.mark.parametrize("text", ["import os", "a: 3", "cfg.model = lambda: 3", "cfg.a = b", "("])
def test_text_that_is_not_a_lazy_config(text: str) -> None:
    assert parse_lazy(text) is None


@pytest.mark.parametrize("name", ["mtl", "mtl_paper", "pan"])
def test_every_lazy_config_survives_a_round_trip(name: str) -> None:
    cfg = LazyConfig.load(str(FILE.with_name(f"yolor_elan_{name}.py")))
    found = parse_lazy(LazyConfig.to_py(cfg))
    assert found is not None
    assert plain(found) == plain(cfg)


def test_gelan_survives_a_round_trip() -> None:
    cfg = LazyConfig.load(str(FILE.with_name("yolor_elan_pan.py")))
    cfg.model.backbone = LazyCall(GELANPAN)(size="t", width=0.25)
    for task in ("detection", "mask", "semantic"):
        cfg.model[f"{task}_head"].input_shape = LazyCall(gelan_pan_shapes)(size="t", width=0.25)

    found = parse_lazy(LazyConfig.to_py(cfg))

    assert found is not None
    assert isinstance(instantiate(found.model).backbone, GELANPAN)


def plain(cfg: Any) -> Any:
    """Values, with class names instead of classes."""

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(each) for key, each in value.items()}
        if isinstance(value, list):
            return [named(each) for each in value]
        return getattr(
            value, "__name__", value.rpartition(".")[2] if isinstance(value, str) else value
        )

    return named(OmegaConf.to_container(cfg, resolve=True))


def test_unusable_files_are_named(lazy: Lazy, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("model = 1 / 0\n")
    (tmp_path / "other.py").write_text("model = {'a': 1}\n")
    for name, message in [
        ("nothing.py", "no configuration .*nothing.py"),
        ("broken.py", "ZeroDivisionError: division by zero"),
        ("other.py", "must have a model, and a MultiTaskMapper as test_mapper"),
    ]:
        with pytest.raises(ValueError, match=message):
            Predictor(tmp_path / name, weights=lazy.path, device="cpu")
    with pytest.raises(ValueError, match="a configuration needs weights"):
        Predictor(lazy.file, device="cpu")
