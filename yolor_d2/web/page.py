"""The web page in Gradio; needs `pip install 'yolor_d2[web]'`."""

import logging
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from ..visualization import compatible_layers
from .session import (
    LOWEST_SCORE,
    DisplayOptions,
    PredictedUpload,
    SharedPredictor,
    draw_picture,
    encode_json,
    size_text,
    times_text,
)
from .uploads import BadUploadError

logger = logging.getLogger(__name__)

# Pictures and predictions are deleted an hour after the last use.
KEPT_SECONDS = 3600
CLEANED_SECONDS = 600
MAX_SESSIONS = 32  # whose last predictions are kept, at most about 50 MB each
MAX_WAITING = 32

CSS = "#picture img {object-fit: contain} #note {min-height: 1.5em}"


def upload_field() -> gr.File:
    """Return an upload field for any file, without Gradio's own processing.

    Gradio would also accept and fetch URLs, and leave an empty file for each upload. Methods are
    replaced because Gradio writes a stub file beside subclasses.
    """
    field = gr.File(label="Picture", height=140, elem_id="upload")
    move = field.async_move_resource_to_block_cache

    async def move_uploaded(path: Any) -> str | None:
        if "://" in str(path):
            raise gr.Error("Please upload a picture.", print_exception=False)
        return await move(path)

    field.async_move_resource_to_block_cache = move_uploaded
    field.preprocess = lambda payload: None if payload is None else payload.path
    return field


def theme() -> gr.themes.Base:
    """Return a theme with system fonts, so that no fonts are fetched."""
    return gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


class Page:
    """Components of the page and their event handlers.

    Args:
        predictor: predictor of uploaded pictures.
        folder: Gradio's temporary folder, for pictures and results.
    """

    def __init__(self, predictor: SharedPredictor, folder: Path) -> None:
        self.shared = predictor
        self.folder = folder
        with gr.Blocks(
            title="yolor_d2", analytics_enabled=False, delete_cache=(CLEANED_SECONDS, KEPT_SECONDS)
        ) as self.blocks:
            self.predicted = gr.State(None, time_to_live=KEPT_SECONDS)
            with gr.Row():
                with gr.Column(scale=1, min_width=280):
                    self._build_controls()
                with gr.Column(scale=3):
                    self._build_results()
            self._connect()
        self.blocks.queue(max_size=MAX_WAITING, api_open=False)

    def _build_controls(self) -> None:
        self.upload = upload_field()
        self.note = gr.Markdown("Upload a picture above.", elem_id="note")
        layers = self.shared.predictor.layers
        self.layers = gr.CheckboxGroup(
            list(layers), value=compatible_layers(layers), label="Layers", elem_id="layers"
        )
        self.opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity", elem_id="opacity")
        lowest = self.shared.lowest_panoptic_score or 0.0
        self.score = gr.Slider(
            LOWEST_SCORE,
            1,
            0.25,
            step=0.01,
            label="Score threshold",
            elem_id="score",
            visible="boxes" in layers,
        )
        self.panoptic_score = gr.Slider(
            lowest,
            1,
            lowest,
            step=0.01,
            label="Score threshold of the panoptic map",
            elem_id="panoptic-score",
            visible="panoptic" in layers,
        )

    def _build_results(self) -> None:
        self.picture = gr.Image(
            label="Prediction",
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
            visible="caption" in self.shared.predictor.layers,
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
        options = [self.layers, self.opacity, self.score, self.panoptic_score]
        drawn = [self.picture, self.times, self.save_picture, self.save_json]
        self.upload.upload(
            self.on_upload,
            [self.upload, *options],
            [self.upload, self.predicted, self.note, self.caption, *drawn],
            concurrency_limit=1,
            api_visibility="private",
        )
        gr.on(
            [self.layers.input, *(slider.input for slider in options[1:])],
            self.on_change,
            [self.predicted, *options],
            drawn,
            trigger_mode="always_last",  # while a slider moves
            concurrency_limit=2,
            show_progress="hidden",
            api_visibility="private",
        )

    def on_upload(self, path: str | None, *options: Any) -> tuple[Any, ...]:
        """Handle an upload: predict, draw, and clear the upload field."""
        if path is None:
            return (gr.skip(),) * 8
        try:
            predicted = self.shared.predict_file(path)
            note, caption = size_text(predicted), predicted.prediction.caption or ""
            return None, predicted, note, caption, *self.on_change(predicted, *options)
        except BadUploadError as error:
            note = str(error)
        except Exception:
            logger.exception("Prediction failed")
            note = "Prediction failed on this picture; see the log of the server."
        off = gr.DownloadButton(value=None, interactive=False)
        return None, None, f"**{note}**", "", None, "", off, off

    def on_change(self, predicted: PredictedUpload | None, *options: Any) -> tuple[Any, ...]:
        """Handle a change of the options: draw the last prediction again."""
        if predicted is None:
            return (gr.skip(),) * 4
        display = _display_options(*options)
        picture, seconds = draw_picture(predicted, display)
        stem = Path(predicted.upload.name).stem
        drawn = self._keep(picture, f"{stem}_seen.jpg")
        found = self._keep(encode_json(predicted, display), f"{stem}.json")
        return (
            drawn,
            times_text(predicted, seconds),
            gr.DownloadButton(value=drawn, interactive=True),
            gr.DownloadButton(value=found, interactive=True),
        )

    def _keep(self, content: bytes, name: str) -> str:
        """Write a file where Gradio serves it, and deletes it later."""
        return save_bytes_to_cache(content, name, str(self.folder))


def _display_options(layers: list[str], *numbers: float) -> DisplayOptions:
    """Make display options from component values; layers come in the order of the clicks."""
    return DisplayOptions(tuple(layers), *(float(number) for number in numbers))
