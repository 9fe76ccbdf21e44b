"""Encoders by short name: how each one is built, which pixels it expects, and what it was pre-trained on.

Any other name is one of timm's, or `hf-hub:owner/model`. Tiles have 224 px of 0.5 or 1.0 µm unless the user wants
others. Most of these models crop their input to this field anyway, so nothing is cropped here: tiles of another size are
resized to the network's input, which therefore shows all of a tile, and fixed position embeddings fit.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from dmml.errors import InputError

if TYPE_CHECKING:
    import torch

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LUNIT = ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464))
OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))


@dataclass(frozen=True)
class Recipe:
    """How to build an encoder.

    Attributes:
        hub: timm's name, `hf-hub:owner/model`, or `torchvision:<trunk>`.
        options: Arguments of `timm.create_model`.
        normalise: Mean and standard deviation of each channel; None means those of the model's configuration.
        pool: `None` for a model that returns a vector; for one that returns tokens, `cls`, or `cls+mean` (class token
            concatenated with the mean of the patch tokens).
        prefix: Number of tokens before the patch tokens, including the class token.
        size: Side of its input in px; None means that of the model's configuration.
        trained_on: Public collections that it was pre-trained on.
        gated: Whether the hub requires an account that was granted access.
    """

    hub: str
    options: dict[str, Any] = field(default_factory=dict)
    normalise: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    pool: str | None = None
    prefix: int = 1
    size: int | None = None
    trained_on: tuple[str, ...] = ()
    gated: bool = False

    @property
    def way_out(self) -> str:
        """Advice for the user if the encoder cannot be built."""
        if self.gated:
            return "ask for access on its hub page and log in with `huggingface-cli login`, or give --weights FILE"
        return "give a name of timm's, hf-hub:owner/model or module:Class of your own, and --weights FILE without a network"

    def build(self, pretrained: bool) -> tuple[torch.nn.Module, dict[str, Any]]:
        """Build the network, with downloaded weights if `pretrained`, and return it with its preprocessing."""
        if self.hub.startswith("torchvision:"):
            return _resnet50_trunk(pretrained), {"mean": list(IMAGENET[0]), "std": list(IMAGENET[1]), "size": 224}
        import timm

        model = timm.create_model(
            self.architecture(pretrained), pretrained=pretrained, **{"num_classes": 0, **self._options()}
        )
        config = cast("Mapping[str, Any]", model.pretrained_cfg)
        mean, std = self.normalise or (config["mean"], config["std"])
        size = self.size or int(config["input_size"][-1])
        if self.pool:
            model = token_pool(model, self.pool, self.prefix)
        return model, {"mean": list(mean), "std": list(std), "size": size}

    def architecture(self, pretrained: bool) -> str:
        """Name for timm; with local weights that of the bare architecture, which needs no request to a hub."""
        bare = self.options.get("architecture")
        return bare if bare and not pretrained else self.hub

    def _options(self) -> dict[str, Any]:
        layers = {"swiglu_packed": _swiglu_packed, "silu": _silu}
        return {
            key: layers[value]() if isinstance(value, str) and value in layers else value
            for key, value in self.options.items()
            if key != "architecture"
        }


_VIT_L = {"architecture": "vit_large_patch16_224", "init_values": 1e-5, "dynamic_img_size": True}
_UNI2 = {
    "architecture": "vit_giant_patch14_224", "img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24,
    "init_values": 1e-5, "embed_dim": 1536, "mlp_ratio": 2.66667 * 2, "no_embed_class": True,
    "mlp_layer": "swiglu_packed", "act_layer": "silu", "reg_tokens": 8, "dynamic_img_size": True,
}  # fmt: skip
_VIRCHOW = {
    "architecture": "vit_huge_patch14_224", "img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375,
    "mlp_layer": "swiglu_packed", "act_layer": "silu", "dynamic_img_size": True, "global_pool": "",
}  # fmt: skip
_GIGAPATH = {
    "architecture": "vit_giant_patch14_dinov2", "img_size": 224, "patch_size": 16, "init_values": 1e-5,
    "embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_ratio": 5.33334, "global_pool": "token",
}  # fmt: skip
_OPTIMUS_VIT = {"architecture": "vit_giant_patch14_reg4_dinov2", "img_size": 224, "init_values": 1e-5}

RECIPES: dict[str, Recipe] = {
    "resnet50": Recipe("torchvision:resnet50"),
    "uni": Recipe("hf-hub:MahmoodLab/UNI", _VIT_L, IMAGENET, size=224, trained_on=("GTEx",), gated=True),
    "uni2-h": Recipe("hf-hub:MahmoodLab/UNI2-h", _UNI2, IMAGENET, size=224, trained_on=("GTEx",), gated=True),
    "virchow": Recipe("hf-hub:paige-ai/Virchow", _VIRCHOW, IMAGENET, "cls+mean", 1, 224, (), True),
    "virchow2": Recipe(
        "hf-hub:paige-ai/Virchow2", {**_VIRCHOW, "reg_tokens": 4}, IMAGENET, "cls+mean", 5, 224, (), True
    ),
    "gigapath": Recipe("hf-hub:prov-gigapath/prov-gigapath", _GIGAPATH, IMAGENET, size=224, gated=True),
    "h-optimus-0": Recipe("hf-hub:bioptimus/H-optimus-0", _OPTIMUS_VIT, OPTIMUS, size=224, gated=True),
    "h-optimus-1": Recipe("hf-hub:bioptimus/H-optimus-1", _OPTIMUS_VIT, OPTIMUS, size=224, gated=True),
    "phikon": Recipe(
        "hf-hub:1aurent/vit_base_patch16_224.owkin_pancancer", {"architecture": "vit_base_patch16_224"},
        IMAGENET, size=224, trained_on=("TCGA",),
    ),
    "lunit-vits8": Recipe(
        "hf-hub:1aurent/vit_small_patch8_224.lunit_dino", {"architecture": "vit_small_patch8_224"},
        LUNIT, size=224, trained_on=("TCGA",),
    ),
    "kaiko-vitb8": Recipe(
        "hf-hub:1aurent/vit_base_patch8_224.kaiko_ai_towards_large_pathology_fms",
        {"architecture": "vit_base_patch8_224", "dynamic_img_size": True}, INCEPTION, size=224, trained_on=("TCGA",),
    ),
}  # fmt: skip
"""Short name → recipe. `resnet50` is torchvision's, cut after its third stage: 1,024 features, as in the released code of
the paper, which itself names no layer"""

_ALSO_TRAINED_ON = {
    "ctranspath": ("TCGA",),
    "lunit": ("TCGA",),
    "kaiko": ("TCGA",),
    "phikon": ("TCGA", "CPTAC", "GTEx"),
}
"""Part of a hub name → collections, for models that are requested by their hub name"""
_COLLECTIONS = {
    "TCGA": re.compile(r"^TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}"),
    "CPTAC": re.compile(r"^C3[LN]-\d{5}"),
    "GTEx": re.compile(r"^GTEX-[A-Z0-9]{4,5}"),
}
"""Public collection → pattern with which the names of its slides begin"""


def check_encoder_name(name: str) -> None:
    """Check that a name does not differ from a short one only in its case, or by underscores in place of hyphens.

    Raises:
        InputError: The message suggests the short name.
    """
    near = difflib.get_close_matches(name.lower(), RECIPES, n=1, cutoff=0.75)
    if near and name not in RECIPES and (name.lower() == near[0] or name.replace("_", "-").lower() == near[0]):
        raise InputError(f"--encoder {name}: did you mean {near[0]}?")


def recipe_for(name: str) -> Recipe | None:
    """Return the recipe of a short name, or of the hub name of such a model; None for any other model."""
    hub = name.replace("hf_hub:", "hf-hub:")
    return RECIPES.get(name) or next((recipe for recipe in RECIPES.values() if recipe.hub == hub), None)


def pretraining_warning(name: str, slide_ids: Iterable[str]) -> str:
    """Warn if an encoder was pre-trained on the collection that slides come from; empty if this is not known.

    Args:
        name: Short or hub name of the encoder.
        slide_ids: File names without their suffix.
    """
    recipe = recipe_for(name)
    ids = list(slide_ids)
    also = next((sources for part, sources in _ALSO_TRAINED_ON.items() if part in name.lower()), ())
    for collection in recipe.trained_on if recipe else also:
        pattern = _COLLECTIONS.get(collection)
        seen = sum(bool(pattern.match(slide)) for slide in ids) if pattern else 0
        if seen:
            return (
                f"{name} was pre-trained on {collection}, and {seen} of these {len(ids)} slides are from there: results "
                "on them are optimistic; test on another collection"
            )
    return ""


def token_pool(model: torch.nn.Module, pool: str, prefix: int) -> torch.nn.Module:
    """Wrap a model of tokens (n, T, d): return its class token, or that token and the mean of the patch tokens."""
    import torch

    class TokenPool(torch.nn.Module):
        """Saves and loads the model's tensors under their original names."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens: torch.Tensor = self.model(x)  # (n, T, d)
            if pool == "cls":
                return tokens[:, 0]
            return torch.cat([tokens[:, 0], tokens[:, prefix:].mean(dim=1)], dim=-1)  # (n, 2d)

        # The arguments that positions could stand for, and `destination`, are deprecated in torch and left out.
        def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:  # type: ignore[override]
            return self.model.state_dict(prefix=prefix, keep_vars=keep_vars)

        def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> object:
            return self.model.load_state_dict(state_dict, strict, assign)

    return TokenPool()


def _resnet50_trunk(pretrained: bool) -> torch.nn.Module:
    """Torchvision's ResNet-50 up to its third stage, averaged over positions: 1,024 features."""
    import torch
    from torchvision.models import ResNet50_Weights, resnet50

    model = resnet50(weights=ResNet50_Weights.IMAGENET1K_V1 if pretrained else None)
    model.layer4, model.fc = torch.nn.Identity(), torch.nn.Identity()
    return model


def _swiglu_packed() -> object:
    from timm.layers import SwiGLUPacked

    return SwiGLUPacked


def _silu() -> type:
    from torch.nn import SiLU

    return SiLU
