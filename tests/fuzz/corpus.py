"""Small valid files that the fuzzer starts from, made here."""

import io
import json
from typing import Any

import numpy as np
import yaml
from PIL import Image

WIDTH, HEIGHT = 32, 24
BOX = (4, 5, 16, 12)  # x, y, width, height
RING = [4, 5, 20, 5, 20, 17, 4, 17]
NUMBERS = (1, 2, 3)
CLASSES = ("cat", "dog", "sky")

Files = dict[str, bytes]


def pixels(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return a gradient with an object, RGB (height, width, 3)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width, dtype=np.uint8)
    image[..., 1] = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    x, y, w, h = BOX
    image[y : y + h, x : x + w, 2] = 200
    return image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode a PIL image."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(array: np.ndarray | None = None) -> bytes:
    return encode(Image.fromarray(pixels() if array is None else array), "PNG")


def label_map() -> np.ndarray:
    """Return class indices, uint8 (HEIGHT, WIDTH): a cat in the sky, and unknown pixels."""
    labels = np.full((HEIGHT, WIDTH), 2, np.uint8)
    x, y, w, h = BOX
    labels[y : y + h, x : x + w] = 0
    labels[0] = 255
    return labels


def segment_map() -> np.ndarray:
    """Return COCO's panoptic colors of the segments 300 (cat) and 7 (sky)."""
    ids = np.where(label_map() == 0, 300, 7)
    return np.stack([ids % 256, ids // 256, ids * 0], axis=2).astype(np.uint8)


def images(folder: str, suffix: str = ".png") -> Files:
    return {f"{folder}/{number}{suffix}": png() for number in NUMBERS}


def _listed() -> list[dict[str, Any]]:
    return [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in NUMBERS]


def instances() -> dict[str, Any]:
    """Return COCO's instances: polygons, run lengths, a crowd, and a class without objects."""
    x, y, width, height = BOX
    first, below = x * HEIGHT + y, HEIGHT - height
    runs = [first, height, *[below, height] * (width - 1)]
    runs.append(WIDTH * HEIGHT - sum(runs))
    masks: list[Any] = [[RING], {"size": [HEIGHT, WIDTH], "counts": runs}]
    annotations = [
        {
            "id": 10 * number + k,
            "image_id": number,
            "category_id": 5 * k,
            "bbox": list(BOX),
            "area": 192,
            "iscrowd": int(k == 2 and number == 2),
            "segmentation": masks[(number + k) % 2],
        }
        for number in NUMBERS
        for k in (1, 2)
    ]
    categories = [
        {"id": 5, "name": "cat", "supercategory": "animal"},
        {"id": 10, "name": "dog", "supercategory": "animal", "color": [1, 2, 3]},
        {"id": 11, "name": "kite"},
    ]
    return {"images": _listed(), "annotations": annotations, "categories": categories}


def captions() -> dict[str, Any]:
    """Return COCO's captions."""
    annotations = [{"id": n, "image_id": n, "caption": f"A cat number {n}."} for n in NUMBERS]
    return {"images": _listed(), "annotations": annotations}


def panoptic() -> dict[str, Any]:
    """Return COCO's panoptic annotations, of `segment_map`."""
    segments = [
        {"id": 300, "category_id": 5, "area": 192, "bbox": list(BOX), "iscrowd": 0},
        {"id": 7, "category_id": 40, "area": 576, "bbox": [0, 0, WIDTH, HEIGHT], "iscrowd": 0},
    ]
    annotations = [
        {"image_id": n, "file_name": f"{n}.png", "segments_info": segments} for n in NUMBERS
    ]
    categories = [
        {"id": 5, "name": "cat", "isthing": 1, "color": [250, 0, 0]},
        {"id": 40, "name": "sky", "isthing": 0, "color": [0, 0, 250]},
    ]
    return {"images": _listed(), "annotations": annotations, "categories": categories}


def semantic_classes() -> dict[str, Any]:
    return {"categories": [{"index": k, "id": k, "name": n} for k, n in enumerate(CLASSES)]}


def labelme() -> dict[str, Any]:
    """Return LabelMe's shapes of an image."""
    ring = [[x, y] for x, y in zip(RING[::2], RING[1::2], strict=True)]
    shapes = [
        {"label": "cat", "points": ring, "shape_type": "polygon", "group_id": None},
        {"label": "dog", "points": ring[::2], "shape_type": "rectangle", "group_id": 3},
        {"label": "dog", "points": ring[:2], "shape_type": "circle", "group_id": None},
    ]
    return {"shapes": shapes, "imagePath": "1.png", "imageWidth": WIDTH, "imageHeight": HEIGHT}


VOC = f"""<annotation><filename>1.png</filename><size><width>{WIDTH}</width></size>
<object><name>cat</name><bndbox><xmin>4</xmin><ymin>5</ymin><xmax>20</xmax><ymax>17</ymax></bndbox>
</object><object><name>dog</name><bndbox><xmin>1.5</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax>
</bndbox></object></annotation>"""
YOLO = "0 0.4 0.45 0.5 0.5\n1 0.1 0.1 0.6 0.1 0.6 0.7 0.1 0.7\n"
CSV = "filename,class,xmin,ymin,xmax,ymax\n1.png,cat,4,5,20,17\n2.png,dog,1,2,9.5,9\n3.png,,,,,\n"
LINES = '{"file_name": "1.png", "text": "A cat."}\n{"file_name": "2.png", "captions": ["A dog."]}\n'


def labeled_data() -> dict[str, Files]:
    """Return a folder of each format of labeled data."""

    def text(content: Any) -> bytes:
        return (content if isinstance(content, str) else json.dumps(content)).encode()

    maps = {f"{n}.png": png(label_map()) for n in NUMBERS}
    segments = {f"{n}.png": png(segment_map()) for n in NUMBERS}
    split = "train2017"
    official = images(split) | {
        f"annotations/instances_{split}.json": text(instances()),
        f"annotations/captions_{split}.json": text(captions()),
        f"annotations/panoptic_{split}.json": text(panoptic()),
        **{f"annotations/panoptic_{split}/{name}": data for name, data in segments.items()},
        **{f"semantic_{split}/{name}": data for name, data in maps.items()},
        f"semantic_{split}/categories.json": text(semantic_classes()),
    }
    yolo = {"path": ".", "train": "images/train", "val": "images/val", "names": ["cat", "dog"]}
    folders = {"images/train", "images/val"}
    return {
        "coco": {"labels.json": text(instances())} | images("images"),
        "captions": {"labels.json": text(captions())} | images("images"),
        "official": official,
        "export": {
            **{f"{p}/_annotations.coco.json": text(instances()) for p in ("train", "valid")},
            **images("train"),
            **images("valid"),
        },
        "yolo": {
            "data.yaml": yaml.safe_dump(yolo).encode(),
            **{name: data for folder in folders for name, data in images(folder).items()},
            **{f"labels/{p}/{n}.txt": text(YOLO) for p in ("train", "val") for n in NUMBERS},
        },
        "voc": images("JPEGImages") | {f"Annotations/{n}.xml": text(VOC) for n in NUMBERS},
        "labelme": images("data") | {f"data/{n}.json": text(labelme()) for n in NUMBERS},
        "csv": {"boxes.csv": text(CSV)} | {f"{n}.png": png() for n in NUMBERS},
        "lines": {"metadata.jsonl": text(LINES)} | {f"{n}.png": png() for n in NUMBERS},
        "semantic": {"classes.txt": text("\n".join(CLASSES))}
        | images("images")
        | {f"masks/{name}": data for name, data in maps.items()},
    }


def pictures() -> Files:
    """Return an image of each format and kind that predictions read."""
    rgb = Image.fromarray(pixels())
    gray, exif = rgb.convert("L"), Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    return {
        "rgb.jpg": encode(rgb, "JPEG", quality=90),
        "turned.jpg": encode(rgb, "JPEG", exif=exif),
        "progressive.jpg": encode(rgb, "JPEG", progressive=True),
        "cmyk.jpg": encode(rgb.convert("CMYK"), "JPEG"),
        "gray.jpg": encode(gray, "JPEG"),
        "rgb.png": encode(rgb, "PNG"),
        "turned.png": encode(rgb, "PNG", exif=exif),
        "palette.png": encode(rgb.quantize(8), "PNG"),
        "alpha.png": encode(rgb.convert("RGBA"), "PNG"),
        "bits.png": encode(rgb.convert("1"), "PNG"),
        "deep.png": encode(deep, "PNG"),
        "dot.png": encode(Image.new("RGB", (1, 1)), "PNG"),
        "rgb.webp": encode(rgb, "WEBP"),
        "lossless.webp": encode(rgb, "WEBP", lossless=True),
        "rgb.gif": encode(rgb, "GIF"),
        "moving.gif": encode(rgb, "GIF", save_all=True, append_images=[gray.convert("RGB")]),
        "rgb.bmp": encode(rgb, "BMP"),
        "palette.bmp": encode(rgb.quantize(8), "BMP"),
        "rgb.tif": encode(rgb, "TIFF"),
        "turned.tif": encode(rgb, "TIFF", exif=exif),
        "packed.tif": encode(rgb, "TIFF", compression="tiff_lzw"),
        "deep.tif": encode(deep, "TIFF"),
        "rgb.ppm": encode(rgb, "PPM"),
    }
