"""The networks of the ablation: in each family a teacher and a student, and each part of them removed or replaced alone.

Families are the paper's model, forms of the released code put into it, and dmml with all its parts, without and with its
backbone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ablation_variants import (
    ALL_PARTS,
    CONTROL,
    DMML_PARTS,
    OPPOSED,
    PAPER_COORDINATION,
    PAPER_PARTS,
    RARE,
    RASTER,
    RELEASED_PARTS,
    SCENES,
    SHARED,
    STUDENT,
    TEACHER,
    Scene,
    Variant,
    part_class,
)
from worlds_networks import NETWORKS, Network

PAPER, RELEASED, DEEP, DMML = "paper", "released", "deep", "dmml"
FAMILIES = {
    PAPER: "The paper's model",
    RELEASED: "Forms of the released code in the paper's model",
    DEEP: "dmml with all its parts, without its backbone",
    DMML: "dmml with all its parts and its backbone",
}
_CLASS = {TEACHER: "SubspaceTeacher", STUDENT: "SubspaceStudent"}
_ALL_PARTS = {
    TEACHER: Network(_CLASS[TEACHER], ALL_PARTS[TEACHER], coordination={}),
    STUDENT: Network(_CLASS[STUDENT], ALL_PARTS[STUDENT], reads=("slides",), coordination={}),
}
_WITHOUT_BACKBONE = {
    of: replace(network, init_args=network.init_args | {"backbone": None}) for of, network in _ALL_PARTS.items()
}
_PAPER_ARGUMENTS = {
    "task": part_class("dmml.tasks.Survival", combination="confidence", edges_from="all"),
    "backbone": None,
    "tissue_specific": False,
    "program_weight": 0.0,
    "decorrelation_weight": 0.0,
    "token_dropout": 0.0,
    "embedding_dropout": 0.0,
}
"""What the paper's teacher and student share: dmml's additions are off, as in configs/paper"""
_PAPER = {
    TEACHER: Network(
        _CLASS[TEACHER],
        _PAPER_ARGUMENTS
        | {
            "fusion": part_class("dmml.nn.paper.fusion.PaperFusion", **RASTER),
            "expression_encoder": part_class("dmml.nn.paper.expression.ProgramTokenEncoder"),
            "expression_dropout": 0.0,
            "consistency": "dev",
            "consistency_weight": 1.0,
        },
        **PAPER_COORDINATION,
    ),
    STUDENT: Network(
        _CLASS[STUDENT],
        _PAPER_ARGUMENTS
        | {
            "aggregator": part_class("dmml.nn.paper.aggregator.PrototypeAggregator"),
            "n_merged": 2,
            "start_from_teacher": False,
            "feature_distance": "squared",
            "soften_student": False,
            "feature_weight": 1.0,
            "prediction_weight": 1.0,
            "teacher_program_weight": 0.0,
            "consistency_weight": 0.0,
        },
        reads=("slides",),
    ),
}


@dataclass(frozen=True)
class Family:
    """References and variants of a family; the names of its networks begin with the family's."""

    name: str
    references: dict[str, Network]
    """{`TEACHER` or `STUDENT`: network}; the student learns from the teacher"""
    variants: dict[str, Variant]
    """{name: variant}"""
    references_of: str | None = None
    """Name of another family whose references the variants are compared with"""
    scenes: tuple[Scene, ...] = SCENES
    """Scenes to which the family is restricted"""
    seeds: int | None = None
    """Number of seeds; None = all"""

    def reference(self, of: str) -> str:
        """Name of the reference network."""
        return f"{self.references_of or self.name}_{of}"

    def networks(self) -> dict[str, Network]:
        """All networks of the family, teachers before their students."""
        references = {of: self._taught(of, network) for of, network in self.references.items()}
        references_by_name = {
            self.reference(of): network for of, network in references.items() if self.references_of is None
        }
        return references_by_name | {
            f"{self.name}_{name}": self._changed(references[variant.of], variant)
            for name, variant in self.variants.items()
        }

    def _taught(self, of: str, network: Network) -> Network:
        return replace(network, teacher=self.reference(TEACHER)) if of == STUDENT else network

    def _changed(self, reference: Network, variant: Variant) -> Network:
        taught = {} if variant.taught_by is None else {"teacher": f"{self.name}_{variant.taught_by}"}
        arguments = reference.init_args | variant.arguments
        return replace(reference, **({"init_args": arguments} | taught | variant.changes))


_WITHOUT_CONTROLS = {name: variant for name, variant in DMML_PARTS.items() if variant.kind != CONTROL}
_OF_FAMILY = (
    Family(PAPER, _PAPER, PAPER_PARTS, seeds=2),
    Family(RELEASED, _PAPER, RELEASED_PARTS, references_of=PAPER, seeds=2),
    Family(DEEP, _WITHOUT_BACKBONE, DMML_PARTS),
    # In `shared`, inner validation gives the deep part no share in most fits with a backbone; its parts have no effect there.
    Family(DMML, _ALL_PARTS, _WITHOUT_CONTROLS, scenes=(OPPOSED, RARE), seeds=2),
)
BY_FAMILY = {family.name: family for family in _OF_FAMILY}
BASELINE = "histology_abmil"
ABLATED: dict[str, Network] = {BASELINE: NETWORKS[BASELINE]}
for _family in _OF_FAMILY:
    ABLATED |= _family.networks()
VARIANTS = {
    f"{family.name}_{name}": (family.name, variant)
    for family in _OF_FAMILY
    for name, variant in family.variants.items()
}
"""{network: (family, variant)}"""


def reference_of(network: str) -> str:
    """Name of the network that a variant is compared with."""
    family, variant = VARIANTS[network]
    return BY_FAMILY[family].reference(variant.of)


def has_cell(network: str, scene: Scene, nth_seed: int, everywhere: bool = False) -> bool:
    """Whether the design has a cell of a variant.

    Args:
        network: A key of `VARIANTS`.
        scene: The scene.
        nth_seed: Position of the seed among all seeds, from 0.
        everywhere: Whether variants run in every scene, not only where they were named and in `shared`.
    """
    name, variant = VARIANTS[network]
    family = BY_FAMILY[name]
    is_scene = everywhere or (scene in family.scenes and scene in (SHARED, *variant.named))
    return is_scene and (family.seeds is None or nth_seed < family.seeds)
