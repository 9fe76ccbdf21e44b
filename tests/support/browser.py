"""Headless Chromium, driven by Playwright: CI must have it, elsewhere the tests that need it are skipped."""

import io
import os
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

HARMLESS = "Ignoring tile %s loaded before reset"
"""What OpenSeadragon notes when another slide is opened while tiles arrive"""
NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium():
    """Start the browser that is installed."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        if os.environ.get("CI") and not os.environ.get("DMML_NO_BROWSER"):
            pytest.fail("chromium is missing, and in CI the tests that open pages must run")
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser, url, width=1200, height=800, **options):
    """Open the viewer's page; on leaving, check that it wrote nothing to the console and that every request succeeded."""
    context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce", **options)
    page, problems = context.new_page(), []
    page.on("console", lambda message: HARMLESS in message.text or problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("response", lambda response: response.ok or problems.append(f"{response.status} {response.url}"))
    page.goto(url)
    page.wait_for_selector("body[data-state=ready]", timeout=30_000)
    yield page
    context.close()
    assert not problems, problems


def picture_of(page):
    """(H, W, 3) uint8 of the window once the slide's tiles are drawn, grey outside the slide's part of the page."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(400)
    window = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    stage = {side: round(value) for side, value in page.locator("#stage").bounding_box().items()}
    part = np.s_[stage["y"] : stage["y"] + stage["height"], stage["x"] : stage["x"] + stage["width"]]
    picture = np.full_like(window, 128)
    picture[part] = window[part]
    return picture


def box_of(picture, colour, tolerance=30):
    """(left, top, right, bottom) of the largest area of a colour within the slide, in pixels of the window."""
    from scipy import ndimage

    near = np.abs(picture.astype(int) - np.array(colour)).max(axis=2) <= tolerance
    areas, n = ndimage.label(near)
    assert n, f"nothing in the window has the colour {colour}"
    largest = np.bincount(areas.ravel())[1:].argmax() + 1
    rows, columns = np.nonzero(areas == largest)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
