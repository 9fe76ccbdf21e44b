"""Licences of encoders' weights, as far as their publishers state them in a form that dmml can name."""

from __future__ import annotations

from dmml.slides.encoders.recipes import RECIPES, recipe_for

_LICENCES = {
    "tf_efficientnet_lite0": "Apache-2.0 (weights pre-trained on ImageNet)",
    "resnet50": "BSD-3-Clause (torchvision; weights pre-trained on ImageNet)",
    "uni": "CC BY-NC-ND 4.0: no commercial use",
    "uni2-h": "CC BY-NC-ND 4.0: no commercial use",
    "virchow2": "CC BY-NC-ND 4.0: no commercial use",
    "h-optimus-0": "Apache-2.0",
    "h-optimus-1": "CC BY-NC-ND 4.0: no commercial use",
}
"""{short name: licence}; terms can change, and the publisher's page is what counts"""


def encoder_licence(name: str) -> str:
    """State the licence of an encoder's weights, with where to check it.

    Args:
        name: Name of the encoder in the checkpoint.
    """
    recipe = recipe_for(name)
    short = next((key for key, each in RECIPES.items() if each is recipe), name) if recipe else name
    page = (
        f"; see {recipe.hub.removeprefix('hf-hub:')} on the hub" if recipe and recipe.hub.startswith("hf-hub:") else ""
    )
    if short in _LICENCES:
        return f"{_LICENCES[short]}{page or '; check with its publisher'}"
    return f"not on record in dmml{page or '; the author states it'}"
