"""The page itself, in Gradio; needs `pip install 'yolor_d2[web]'`."""

import logging
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from ..visualization import compatible_layers
from .session import Network, Seen, View, json_of, picture_of, size_of, times_of
from .uploads import BadUploadError

logger = logging.getLogger(__name__)

# An hour after somebody has left, neither picture nor prediction is kept.
KEPT_SECONDS = 3600
CLEANED_SECONDS = 600
MAX_SESSIONS = 32  # whose last predictions are kept, some 50 MB each at most
MAX_WAITING = 32

CSS = "#picture img {object-fit: contain} #note {min-height: 1.5em}"


def upload_place() -> gr.File:
    """Where a file of any kind is dropped, to be judged by its bytes.

    Gradio's own would also take a URL, fetch it, and leave an empty file for each upload.
    (A subclass would do, too; but Gradio writes a file of stubs beside each of those.)
    """
    place = gr.File(label="Picture", height=140, elem_id="upload")
    move = place.async_move_resource_to_block_cache

    async def move_uploaded(path: Any) -> str | None:
        if "://" in str(path):
            raise gr.Error("A picture has to be uploaded.", print_exception=False)
        return await move(path)

    place.async_move_resource_to_block_cache = move_uploaded
    place.preprocess = lambda payload: None if payload is None else payload.path
    return place


def theme() -> gr.themes.Base:
    """With fonts that every system has: nothing is fetched from anywhere."""
    return gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


class Page:
    """Components and what happens when they are touched.

    Args:
        network: to ask.
        folder: for pictures and results, Gradio's own.
    """

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.folder = folder
        with gr.Blocks(
            title="yolor_d2", analytics_enabled=False, delete_cache=(CLEANED_SECONDS, KEPT_SECONDS)
        ) as self.blocks:
            self.seen = gr.State(None, time_to_live=KEPT_SECONDS)
            with gr.Row():
                with gr.Column(scale=1, min_width=280):
                    self._build_controls()
                with gr.Column(scale=3):
                    self._build_results()
            self._connect()
        self.blocks.queue(max_size=MAX_WAITING, api_open=False)

    def _build_controls(self) -> None:
        self.upload = upload_place()
        self.note = gr.Markdown("Drop a picture above.", elem_id="note")
        layers = self.network.predictor.layers
        self.layers = gr.CheckboxGroup(
            list(layers), value=compatible_layers(layers), label="Layers", elem_id="layers"
        )
        self.opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity", elem_id="opacity")
        floor = self.network.panoptic_floor
        self.score = gr.Slider(
            *(0.05, 1, 0.25),
            step=0.01,
            label="Least score of objects",
            elem_id="score",
            visible="boxes" in layers,
        )
        self.panoptic_score = gr.Slider(
            *(floor or 0.0, 1, floor or 0.0),
            step=0.01,
            label="Least score of things in the panoptic map",
            elem_id="panoptic-score",
            visible="panoptic" in layers,
        )

    def _build_results(self) -> None:
        self.picture = gr.Image(
            label="What the network says",
            type="filepath",
            interactive=False,
            height=560,
            buttons=["download", "fullscreen"],
            elem_id="picture",
        )
        self.caption = gr.Textbox(
            label="Caption",
            interactive=False,
            elem_id="caption",
            visible="caption" in self.network.predictor.layers,
        )
        self.times = gr.Textbox(label="Time", interactive=False, elem_id="times")
        with gr.Row():
            self.save_picture = gr.DownloadButton(
                "Download picture", interactive=False, elem_id="save-picture"
            )
            self.save_json = gr.DownloadButton(
                "Download JSON", interactive=False, elem_id="save-json"
            )

    def _connect(self) -> None:
        view = [self.layers, self.opacity, self.score, self.panoptic_score]
        drawn = [self.picture, self.times, self.save_picture, self.save_json]
        self.upload.upload(
            self.see,
            [self.upload, *view],
            [self.upload, self.seen, self.note, self.caption, *drawn],
            concurrency_limit=1,
            api_visibility="private",
        )
        gr.on(
            [self.layers.input, *(slider.input for slider in view[1:])],
            self.draw,
            [self.seen, *view],
            drawn,
            trigger_mode="always_last",  # of a slider that moves
            concurrency_limit=2,
            show_progress="hidden",
            api_visibility="private",
        )

    def see(self, path: str | None, *view: Any) -> tuple[Any, ...]:
        """Something was uploaded; the place for the next one is free again."""
        nothing = gr.skip()
        if path is None:
            return (nothing,) * 8
        try:
            seen = self.network.see(path)
            note, caption = size_of(seen), seen.prediction.caption or ""
            return None, seen, note, caption, *self.draw(seen, *view)
        except BadUploadError as error:
            note = str(error)
        except Exception:
            logger.exception("A picture could not be predicted on")
            note = "The network failed on this picture; the server's log says why."
        off = gr.DownloadButton(value=None, interactive=False)
        return None, None, f"**{note}**", "", None, "", off, off

    def draw(self, seen: Seen | None, *view: Any) -> tuple[Any, ...]:
        """Something was toggled or moved; the network is not asked again."""
        if seen is None:
            return (gr.skip(),) * 4
        shown = _view(*view)
        picture, seconds = picture_of(seen, shown)
        stem = Path(seen.upload.name).stem
        drawn = self._keep(picture, f"{stem}_seen.jpg")
        found = self._keep(json_of(seen, shown), f"{stem}.json")
        return (
            drawn,
            times_of(seen, seconds),
            gr.DownloadButton(value=drawn, interactive=True),
            gr.DownloadButton(value=found, interactive=True),
        )

    def _keep(self, content: bytes, name: str) -> str:
        """Where Gradio gives it out, and deletes it after a while."""
        return save_bytes_to_cache(content, name, str(self.folder))


def _view(layers: list[str], *numbers: float) -> View:
    """Layers come as they were clicked, from whom ever."""
    return View(tuple(layers), *(float(number) for number in numbers))
