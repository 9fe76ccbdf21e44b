"""The worlds of `dmml simulate --world`, which differ in the data that carry the signal. Standard library only.

Every world starts from the six shared factors, which drive the RNA, the slides and the hazard. Most add a factor h that
only tissue shows, or a factor g that only genes show; both are standard normal and independent of everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dmml.errors import InputError

ALL_TOKENS, RARE, NEW_TISSUE, OPPOSED, AGREEMENT = "all tokens", "rare tissue", "new tissue", "opposed", "agreement"
"""How tissue shows h: on every token; on the tokens of one small patch; as the amount of a tissue that other worlds do
not have; as the difference between tumor and microenvironment along one direction; or as the agreement of two signs on
every token, where each sign is positive as often as negative."""


@dataclass(frozen=True)
class World:
    """How a world differs from the plain shared factors: additional factors, effects and shifts between sites."""

    description: str
    planting: str | None = None
    """How tissue shows h: one of the constants above, or None if it does not."""
    length: Mapping[int, float] = field(default_factory=dict)
    """Length of h's direction at each magnification, in standard deviations of the token noise."""
    genes_show_g: bool = False
    h_effect: float = 0.0
    """Log-hazard per unit of h."""
    g_effect: float = 0.0
    """Log-hazard per unit of g."""
    product_effect: float = 0.0
    """Log-hazard per unit of h · g."""
    shared_effect: float = 0.9
    """Multiplier of the log-hazard of the shared factors and age."""
    site_size: float = 1.0
    """Multiplier of the site shifts of tokens and genes."""
    uneven_follow_up: bool = False
    """Whether follow-up ends earlier at some sites of the development cohort than at others."""

    @property
    def has_h(self) -> bool:
        """Whether the world has a factor h."""
        return self.planting is not None

    @property
    def has_g(self) -> bool:
        """Whether the world has a factor g; in the opposed world, g is the common part of the two factors."""
        return self.genes_show_g or self.planting == OPPOSED


EFFECT = 1.3
"""Log-hazard per unit of h or g in most worlds: about the combined effect of the six shared factors."""
LONG = 4.0
"""Length of a direction that few tokens carry, and of the new tissue's prototype: as long as the other prototypes."""

WORLDS = {
    "shared": World("the six factors drive RNA, slide and hazard; nothing else matters"),
    "tissue_only": World(
        "a factor h that every token shows and no gene knows", ALL_TOKENS, {10: 1.0, 20: 1.0}, h_effect=EFFECT
    ),
    "rare_tissue": World(
        "a factor h that one patch with 5 % of the tokens shows", RARE, {10: LONG, 20: LONG}, h_effect=EFFECT
    ),
    "composition": World(
        "a factor h that decides how much of a new tissue there is", NEW_TISSUE, {10: LONG, 20: LONG}, h_effect=EFFECT
    ),
    "one_magnification": World(
        "a factor h that every token shows at 20x and none at 10x", ALL_TOKENS, {20: 1.0}, h_effect=EFFECT
    ),
    "rna_only": World("a factor g that genes show and no slide does", genes_show_g=True, g_effect=EFFECT),
    "interaction": World(
        "a factor h of the tissue times a factor g of the genes; neither has an effect by itself",
        ALL_TOKENS,
        {10: 1.0, 20: 1.0},
        genes_show_g=True,
        product_effect=EFFECT,
    ),
    "opposed": World(
        "tumor and microenvironment show strongly correlated factors along one direction, with opposite effects",
        OPPOSED,
        {10: 2.0, 20: 2.0},
        h_effect=EFFECT,
    ),
    "token_interaction": World(
        "every token has a sign along each of two directions, and a factor h decides how often the two agree",
        AGREEMENT,
        {10: 2.0, 20: 2.0},
        h_effect=EFFECT,
    ),
    "site_shift": World(
        "sites shift tokens and genes four times as much as elsewhere and follow their patients for unequal times",
        site_size=4.0,
        uneven_follow_up=True,
    ),
    "null": World("factors as in `shared`, and an outcome that nothing predicts", shared_effect=0.0),
}


def world_named(name: str) -> World:
    """Look up a world by its name.

    Raises:
        InputError: No world has this name.
    """
    if name not in WORLDS:
        raise InputError(f"--world: there is no world {name!r}; one of {', '.join(WORLDS)}")
    return WORLDS[name]
