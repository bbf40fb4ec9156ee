"""The targets of the fuzzer by name."""

from ..cases import Target
from .annotations import ANNOTATIONS
from .archives import ZIPS
from .checkpoints import CHECKPOINTS
from .configs import CONFIGS
from .exported import EXPORTED
from .images import IMAGES, MAPS
from .videos import VIDEOS
from .web import WEB
from .weights import WEIGHTS

TARGETS: dict[str, Target] = {
    "annotations": ANNOTATIONS,
    "images": IMAGES,
    "maps": MAPS,
    "zips": ZIPS,
    "weights": WEIGHTS,
    "checkpoints": CHECKPOINTS,
    "configs": CONFIGS,
    "exported": EXPORTED,
    "videos": VIDEOS,
    "web": WEB,
}
