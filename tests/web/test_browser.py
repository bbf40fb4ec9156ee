"""The page in a real browser: Debian's chromium and chromium-driver, and selenium."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ..saved_networks import Saved
from .pages import ServedPage, serve
from .tab import Tab

# What a person sees


def test_the_page_names_the_network_and_its_classes(tab: Tab, page: ServedPage) -> None:
    assert tab.text("name") == "toy/model.pth"
    assert tab.text("facts").startswith("detection, mask, semantic, caption · ")
    assert tab.text("limits") == "JPEG, PNG, WEBP, BMP, GIF, TIFF up to 1 MB"
    tab.find("#counts")[0].click()
    names = [e.text for e in tab.find("#classes .class")]
    assert names[: len(page.predictor.metadata.thing_classes)] == list(
        page.predictor.metadata.thing_classes
    )


def test_the_untouched_picture_is_first(tab: Tab, page: ServedPage, tmp_path: Path) -> None:
    Image.new("RGB", (160, 120), (90, 120, 30)).save(tmp_path / "plain.png")
    page.predictor.may_predict.clear()
    try:
        tab.drop(tmp_path / "plain.png")
        tab.wait(lambda: tab.picture)
        assert tab.is_busy
        assert "plain.png: the network is working" in tab.text("status")
        points = [(x / 8, y / 8) for x in range(8) for y in range(8)]
        assert tab.colors(*points) == [[90, 120, 30]] * 64
    finally:
        page.predictor.may_predict.set()
    tab.wait(lambda: not tab.is_busy)


def test_a_picture_and_its_layers(tab: Tab, page: ServedPage, saved: Saved) -> None:
    tab.predict(saved.images[0])
    truth = page.predictor(str(saved.images[0]))
    count = int((truth.instances.scores >= 0.25).sum())
    assert tab.text("caption") == truth.caption
    assert tab.text("status") == f"{saved.images[0].name}: {count} objects"
    assert len(tab.find("#objects tbody tr")) == count
    assert tab.text("times").startswith("160 × 120 pixels · reading ")  # noqa: RUF001
    predicted = len(page.predictor.predicted)
    pictures = [tab.picture]
    for name in ("boxes", "masks", "labels", "panoptic", "semantic"):
        tab.click(name)
        pictures.append(tab.picture)
    tab.slide("opacity", 0.9)
    pictures.append(tab.picture)
    assert len(set(pictures)) == len(pictures)
    for name in ("boxes", "masks", "labels", "none"):
        tab.click(name)
    tab.slide("opacity", 0.5)
    assert tab.picture == pictures[0]
    tab.find("#original")[0].click()
    assert tab.picture == pictures[3]  # without boxes, masks and labels
    assert len(page.predictor.predicted) == predicted


def test_a_row_puts_its_object_in_the_spotlight(tab: Tab, saved: Saved) -> None:
    tab.predict(saved.images[0])
    before = tab.picture
    tab.rows[1].click()
    assert [row.get_attribute("class") for row in tab.rows[:3]] == ["", "selected", ""]
    selected = tab.picture
    assert selected != before
    tab.find("#lists td button")[1].send_keys("\ue007")  # Enter
    assert tab.picture == before
    tab.find("#lists td button")[1].send_keys("\ue00d")  # space
    assert tab.picture == selected
    pressed = tab.find("#lists td button")[1]
    assert pressed.get_attribute("aria-pressed") == "true"
    assert tab.run("return document.activeElement") == pressed  # the focus stays
    pressed.send_keys("\ue00c")  # Escape
    assert tab.picture == before
    tab.find("#picture")[0].click()
    assert len(tab.find("tr.selected")) == 1


def test_nothing_found_is_said(tab: Tab, saved: Saved) -> None:
    tab.predict(saved.images[0])
    tab.slide("score", 1)
    name = saved.images[0].name
    expected = f"{name}: nothing was found with a score of at least 100 %, "
    assert tab.text("status").startswith(expected)
    assert tab.text("status").endswith(" below: lower the score threshold to see them.")
    assert tab.text("objects") == "No objects."


def test_masks_are_those_of_the_prediction(tab: Tab, page: ServedPage, saved: Saved) -> None:
    content = page.predictor(str(saved.images[0])).to_json()
    entries = [*content["instances"], *content["segments_info"], *content["sem_seg"]]
    script = """
        const [masks, done] = arguments;
        const describe = (found) =>
          found && [found.x, found.y, found.width, found.height, [...found.inside].join('')];
        import(new URL('masks.js', location.href)).then(
          ({ maskWindow }) => done(masks.map((mask) => describe(maskWindow(mask)))),
          (error) => done(String(error)),
        );
    """
    masks = [entry["segmentation"] for entry in entries]
    tab.activate()
    windows = tab.browser.execute_async_script(script, masks)
    assert len(windows) == len(masks) > 10
    for window, mask in zip(windows, masks, strict=True):
        decoded = coco_mask.decode(mask)
        if not decoded.any():
            assert window is None
            continue
        x, y, width, height, inside = window
        assert [x, y, width, height] == coco_mask.toBbox(mask).tolist()
        pixels = np.array([int(digit) for digit in inside]).reshape(height, width)
        assert (pixels == decoded[y : y + height, x : x + width]).all()


def test_pictures_that_browsers_do_not_know(tab: Tab, tmp_path: Path) -> None:
    Image.new("RGB", (160, 120), (90, 120, 30)).save(tmp_path / "scan.tif")
    tab.predict(tmp_path / "scan.tif")
    tab.find("#original")[0].click()
    assert np.abs(np.array(tab.colors((0.5, 0.5))[0]) - (90, 120, 30)).max() < 6


def test_turned_pictures(tab: Tab, tmp_path: Path) -> None:
    image = Image.new("RGB", (160, 120), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 80, 120))
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored left side is the top
    for name in ("a.jpg", "b.png", "c.webp"):
        image.save(tmp_path / name, exif=exif, quality=95)
        tab.predict(tmp_path / name)
        assert tab.text("times").startswith("120 × 160 pixels")  # noqa: RUF001
        tab.find("#original")[0].click()
        top, bottom = tab.colors((0.5, 0.1), (0.5, 0.9))
        assert top[0] > 240 > 20 > top[2]
        assert bottom[2] > 240 > 20 > bottom[0]


def test_examples(tab: Tab, saved: Saved) -> None:
    pictures = tab.find("#examples img")
    assert [e.get_attribute("alt") for e in pictures] == [image.name for image in saved.images]
    pictures[2].click()
    tab.wait(lambda: tab.rows)
    assert tab.text("status").startswith(f"{saved.images[2].name}: ")


def test_a_picture_can_be_dropped_anywhere_and_pasted(tab: Tab) -> None:
    script = """
        const [kind, field, event] = arguments;
        const canvas = document.createElement('canvas');
        canvas.toBlob((blob) => {
          const data = new DataTransfer();
          data.items.add(new File([blob], `${event}.png`, { type: 'image/png' }));
          dispatchEvent(new window[kind](event, { [field]: data, cancelable: true }));
        });
    """
    for kind, field, event in (
        ("DragEvent", "dataTransfer", "drop"),
        ("ClipboardEvent", "clipboardData", "paste"),
    ):
        tab.run(script, kind, field, event)
        tab.wait(lambda event=event: tab.text("status").startswith(f"{event}.png: ") and tab.rows)


# Errors


def test_a_new_error_replaces_the_old_one(tab: Tab, saved: Saved, tmp_path: Path) -> None:
    tab.predict(saved.images[0])
    (tmp_path / "text.jpg").write_text("no picture")
    tab.drop(tmp_path / "text.jpg")
    tab.wait(lambda: "not a supported picture" in tab.text("status"))
    assert tab.has_error
    assert tab.picture == ""
    assert tab.text("caption") == ""
    (tmp_path / "heavy.jpg").write_bytes(bytes(2_100_000))
    tab.drop(tmp_path / "heavy.jpg")
    tab.wait(lambda: tab.text("status") == "heavy.jpg has 2.1 MB; the limit is 1 MB.")
    tab.predict(saved.images[1])
    assert not tab.has_error


def test_a_server_that_is_gone(open_tab: Callable[..., Tab], saved: Saved) -> None:
    with serve(saved) as gone:
        tab = open_tab(gone.url)
    tab.drop(saved.images[0])
    tab.wait(lambda: tab.text("status") == "The server does not answer.")
    assert tab.has_error


def test_only_the_last_picture_is_shown(tab: Tab, page: ServedPage, saved: Saved) -> None:
    page.predictor.may_predict.clear()
    try:
        tab.drop(saved.images[0])
        tab.wait(lambda: page.predictor.predicted[-1:] == (saved.images[0].name,))
        tab.drop(saved.images[1])
    finally:
        page.predictor.may_predict.set()
    tab.wait(lambda: tab.rows)
    assert tab.text("status").startswith(f"{saved.images[1].name}: ")


def test_two_users_at_once(open_tab: Callable[..., Tab], saved: Saved) -> None:
    tabs = open_tab(), open_tab()
    for each, image in zip(tabs, saved.images, strict=False):
        each.drop(image)
    for each, image in zip(tabs, saved.images, strict=False):
        each.wait(lambda each=each: each.rows)
        assert each.text("status").startswith(f"{image.name}: ")


def test_a_picture_of_50_megapixels(tab: Tab, tmp_path: Path) -> None:
    Image.new("RGB", (8000, 6250), (90, 120, 30)).save(tmp_path / "large.jpg", quality=30)
    tab.predict(tmp_path / "large.jpg")
    expected = "Scaled down from 8000 × 6250 to 505 × 395 pixels"  # noqa: RUF001
    assert tab.text("times").startswith(expected)


# Files, phones and keyboards


def test_results_can_be_saved(tab: Tab, page: ServedPage, saved: Saved, tmp_path: Path) -> None:
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    tab.browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    tab.predict(saved.images[0])
    tab.slide("score", 0.5)
    files = {
        kind: tmp_path / f"{saved.images[0].stem}_prediction.{kind}" for kind in ("json", "png")
    }
    for kind, path in files.items():
        tab.find(f"#save-{kind}")[0].click()
        tab.wait(path.is_file)
    truth = page.predictor(str(saved.images[0])).to_json() | {"file_name": saved.images[0].name}
    truth["instances"] = [each for each in truth["instances"] if each["score"] >= 0.5]
    segments = truth["segments_info"]
    truth["segments_info"] = [each for each in segments if each.get("score", 1) >= 0.5]
    assert json.loads(files["json"].read_text()) == truth
    picture = Image.open(files["png"])
    assert picture.width == 1280
    assert picture.height > 960  # the caption is below


def test_phones(tab: Tab, saved: Saved) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    tab.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        tab.browser.refresh()
        tab.wait(lambda: tab.find("#layers input"))
        tab.predict(saved.images[0])
        double = "const list = document.getElementById('examples');"
        tab.run(double + "list.append(...[...list.children].map((e) => e.cloneNode(true)))")
        assert tab.run("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
        script = "const e = document.querySelector(arguments[0]).getBoundingClientRect();"
        script += "return [e.left, e.top, e.right, e.bottom]"
        for selector in ("#picture", "#caption", "#status"):
            left, top, right, bottom = tab.run(script, selector)
            assert 0 <= left < right <= 390, selector
            assert 0 <= top < bottom <= 844, selector
        long = "a very long caption of many words and a" + "very" * 40 + " long one"
        tab.run("document.getElementById('caption').textContent = arguments[0]", long)
        assert tab.run(
            "const e = document.getElementById('caption'); return e.scrollWidth <= e.clientWidth"
        )
    finally:
        tab.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_has_a_name_for_screen_readers(tab: Tab, saved: Saved) -> None:
    tab.predict(saved.images[0])
    controls = tab.find("button, input, canvas, img, summary, section")
    shown = [e for e in controls if e.is_displayed() and e.get_attribute("alt") != ""]
    assert len(shown) > 20
    assert [e.get_attribute("outerHTML") for e in shown if not e.accessible_name] == []
    (picture,) = tab.find("#picture")
    assert picture.accessible_name.startswith(saved.images[0].name)
    assert tab.find("#status")[0].aria_role == "status"
    assert {e.accessible_name for e in tab.find("input[type=range]")} == {
        *("Score threshold", "Opacity of areas")
    }
