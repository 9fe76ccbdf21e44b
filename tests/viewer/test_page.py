"""The viewer's page in a real browser: tiles lie where they are on the slide, by keyboard, mouse and touch."""

import json
import shutil

import numpy as np
import pytest
from browser import box_of, chromium, opened, picture_of
from viewed_answers import MARKED, PURPLE, RED, serving, write_answer, write_marked_slide

pytestmark = pytest.mark.slow
NAME = f"20x {MARKED[0]},{MARKED[1]}"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    slide = write_marked_slide(tmp_path_factory.mktemp("scans") / "s17.scn")
    return write_answer(tmp_path_factory.mktemp("answers") / "s17", slide)


@pytest.fixture(scope="module")
def server(answer):
    with serving(answer) as running:
        yield running


def opacity(page, percent):
    page.locator("#opacity").fill(str(percent))


def checked(page, group):
    return page.locator(f"#{group} input:checked + span").inner_text()


def purple_box(page):
    """Where the marked tile is on the slide, without the overlay."""
    before = page.locator("#opacity").input_value()
    opacity(page, 0)
    box = box_of(picture_of(page), PURPLE)
    opacity(page, before)
    return box


def press_m(page, magnification):
    page.keyboard.press("m")
    page.locator("#magnifications input:checked + span").filter(has_text=f"{magnification}×").wait_for()
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("near", [False, True])
def test_an_overlay_tile_lies_where_the_tile_is_on_a_slide_with_bounds(browser, server, near):
    with opened(browser, server.url) as page:
        if near:
            page.keyboard.press("n")  # flies to the tile and selects it
            press_m(page, 10)
            press_m(page, 20)  # nothing is selected any more, so no frame covers the edges
        on_slide = purple_box(page)
        opacity(page, 100)
        overlay = box_of(picture_of(page), RED, tolerance=3)
        assert np.abs(on_slide - overlay).max() <= 2
        assert on_slide[2] - on_slide[0] > 60


def test_an_overlay_tile_lies_where_the_tile_is_on_a_thumbnail(browser, answer):
    with serving(answer, thumbnails=True) as server, opened(browser, server.url) as page:
        on_thumbnail = purple_box(page)
        opacity(page, 100)
        overlay = box_of(picture_of(page), RED, tolerance=3)
        thumbnail_pixel = (overlay[2] - overlay[0]) / 224 * 4000 / 512  # the glass has 4000 px, its thumbnail 512
        assert np.abs(on_thumbnail - overlay).max() <= 1.5 * thumbnail_pixel
        assert "thumbnail is shown" in page.locator("#note").inner_text()


def test_a_click_reads_the_values_of_the_tile(browser, server):
    with opened(browser, server.url) as page:
        left, top, right, bottom = purple_box(page).tolist()
        page.mouse.move((left + right) / 2, (top + bottom) / 2)
        assert page.locator("#readout").inner_text() == f"{NAME}: contribution, all parts +1, raises the risk"
        page.mouse.click(left + 5, top + 5)
        text = page.locator("#tile").inner_text()
        assert NAME in text
        assert "raises the risk" in text
        assert page.locator("#tile dt").all_inner_texts() == ["contribution, all parts", "attention, tumor"]
        assert page.locator("#tile dd").first.inner_text() == "+1"
        page.mouse.click(left - 5, top + 5)
        assert f"20x {MARKED[0] - 1},{MARKED[1]}" in page.locator("#tile").inner_text()
        picture_of(page)


def test_the_keyboard_reaches_everything(browser, server):
    with opened(browser, server.url) as page:
        assert checked(page, "layers") == "contribution, all parts"
        page.keyboard.press("2")
        assert checked(page, "layers") == "attention, tumor"
        page.keyboard.press("3")
        assert checked(page, "layers") == "classes"
        assert page.locator("#scale li").count() == 2
        page.keyboard.press("1")
        before = page.locator("#opacity").input_value()
        page.keyboard.press("]")
        assert int(page.locator("#opacity").input_value()) == int(before) + 10
        page.keyboard.press("0")
        assert page.locator("#opacity").input_value() == "0"
        page.keyboard.press("0")
        assert int(page.locator("#opacity").input_value()) == int(before) + 10
        press_m(page, 10)
        press_m(page, 20)
        page.keyboard.press("n")
        assert NAME in page.locator("#tile").inner_text()
        page.keyboard.press("n")
        assert NAME not in page.locator("#tile").inner_text()
        page.keyboard.press("p")
        assert NAME in page.locator("#tile").inner_text()
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("Escape")
        assert not page.locator("#help").is_visible()
        picture_of(page)


def test_keys_move_and_zoom_the_slide(browser, server):
    with opened(browser, server.url) as page:
        page.keyboard.press("n")
        first = purple_box(page)
        page.locator("#stage").focus()
        page.keyboard.press("-")
        smaller = purple_box(page)
        assert smaller[2] - smaller[0] == pytest.approx((first[2] - first[0]) / 1.5, abs=3)
        page.locator("#stage").focus()  # the box was measured through the slider, which uses arrows itself
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
        moved = purple_box(page)
        assert moved[0] < smaller[0] - 20  # the view moves right and up
        assert moved[1] > smaller[1] + 20
        page.keyboard.press("h")
        page.keyboard.press("p")
        page.locator("#stage").focus()
        page.keyboard.press("Enter")
        assert page.locator("#tile .name").inner_text() == NAME  # the tile in the centre


def test_the_lists_lead_to_the_tiles(browser, server):
    with opened(browser, server.url) as page:
        button = page.locator("#top button").first
        assert button.get_attribute("aria-label") == f"Rank 1, tile {NAME}, contribution, all parts +1"
        button.click()
        left, top, right, bottom = purple_box(page)
        stage = page.locator("#stage").bounding_box()
        assert (left + right) / 2 == pytest.approx(stage["x"] + stage["width"] / 2, abs=3)
        assert (top + bottom) / 2 == pytest.approx(stage["y"] + stage["height"] / 2, abs=3)
        assert button.get_attribute("aria-current") == "true"
        assert page.locator("#bottom button").first.inner_text() == "−0.5"


def test_touch_reads_a_tile_and_pinches(browser, server):
    with opened(browser, server.url, 390, 844, has_touch=True, is_mobile=True) as page:
        left, top, right, bottom = purple_box(page).tolist()
        page.touchscreen.tap((left + right) / 2, (top + bottom) / 2)
        assert page.locator("#tile .name").inner_text() == NAME
        page.locator("#top button").first.tap()
        page.locator("#zoom-out").tap()
        before = purple_box(page)
        stage = page.locator("#stage").bounding_box()
        centre = {"x": stage["x"] + stage["width"] / 2, "y": stage["y"] + stage["height"] / 2}
        gesture = {"scaleFactor": 1.6, "relativeSpeed": 400, "gestureSourceType": "touch"}
        page.context.new_cdp_session(page).send("Input.synthesizePinchGesture", centre | gesture)
        after = purple_box(page)
        assert (after - before)[2] - (after - before)[0] > 0.3 * (before[2] - before[0])


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_the_page_fits_its_window_and_names_its_controls(browser, server, width):
    with opened(browser, server.url, width, 900) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, input, select, [tabindex=\"0\"]')].filter((e) => "
            "!e.ariaLabel && !e.labels?.length && !e.innerText.trim()).map((e) => e.outerHTML)"
        )
        assert unnamed == []
        picture_of(page)


def test_the_focus_is_visible(browser, server):
    with opened(browser, server.url) as page:
        for _ in range(6):
            page.keyboard.press("Tab")
            style = page.evaluate("getComputedStyle(document.activeElement).outline")
            assert "3px" in style
        picture_of(page)


def test_slides_are_chosen_from_a_list_however_fast(browser, answer, tmp_path):
    for name in "abc":
        shutil.copytree(answer, tmp_path / "answers" / name)
    record = json.loads((answer / "prediction.json").read_text())
    (tmp_path / "answers" / "b" / "prediction.json").write_text(json.dumps(record | {"answer": ["Another answer"]}))
    with serving(tmp_path / "answers") as server, opened(browser, server.url) as page:
        assert page.locator("#slides option").count() == 3
        page.keyboard.press("n")
        for index in (2, 0, 1):
            page.locator("#slides").select_option(str(index))
        page.wait_for_selector("#lines :text('Another answer')")
        page.wait_for_selector("body[data-state=ready]")
        assert page.url.endswith("#2")
        assert "Click or tap" in page.locator("#tile").inner_text()
        purple_box(page)


def test_warnings_of_an_answer_stand_above_it(browser, server, answer, tmp_path):
    with opened(browser, server.url) as page:
        assert not page.locator("#warnings").is_visible()
    warned = shutil.copytree(answer, tmp_path / "s17")
    record = json.loads((warned / "prediction.json").read_text())
    record["limits"] = {"warnings": ["The slide is unlike the training slides."]}
    (warned / "prediction.json").write_text(json.dumps(record))
    with serving(warned) as other, opened(browser, other.url) as page:
        warning, lines = page.locator("#warnings"), page.locator("#lines")
        assert warning.inner_text().strip() == "The slide is unlike the training slides."
        assert warning.bounding_box()["y"] < lines.bounding_box()["y"]
