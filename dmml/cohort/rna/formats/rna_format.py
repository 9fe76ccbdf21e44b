"""What a file format of RNA has to provide. A new format is a subclass in a module of its own, listed in `registry`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from dmml.cohort.rna.genes.probes import ProbeMap
from dmml.cohort.rna.matrix import Matrix
from dmml.cohort.rna.symbol_table import SymbolTable


class ReadOptions(NamedTuple):
    """What the user states about the inputs."""

    scale: str | None = None
    """Scale of the values, or which of the scales in a file to read; None to detect it, or for the format's default."""
    patient_id: str | None = None
    """Column of the patient ids, for tables of patients × genes."""
    suffix: str | None = None
    """Suffix of the gene columns in a wider table."""
    all_genes: bool = False
    """Also keep genes of STAR-counts files other than protein-coding and immune-receptor genes."""
    probes: ProbeMap | None = None
    """Map from row names to genes, if the names are not genes."""
    layer: str | None = None
    """Layer of the values, for tables of AnnData; None for its `X`."""
    gene_names: str | None = None
    """Column of `var` with the names of genes, for tables of AnnData; None to find it."""
    mapped_samples: Container[str] = ()
    """Names of samples in the patient map."""


class RnaFormat(ABC):
    """A file format."""

    key: str
    """Name of the format in the provenance of a table."""
    title: str
    """Name of the format in messages."""
    folder_endings: tuple[str, ...] = ()
    """Ends of the names of files that are searched for this format in folders; empty if a file must be named itself.
    Lower case, without `.gz`."""

    @abstractmethod
    def matches(self, path: Path) -> bool:
        """Whether a file has this format.

        Raises:
            InputError: The file cannot be read, or it is another file of the same program, without the values of genes.
        """


class TableFormat(RnaFormat):
    """A format whose files hold many samples each."""

    takes_patient_id: ClassVar[bool] = False
    """Whether rows may be patients, so that the options `patient_id` and `suffix` apply."""
    takes_layer: ClassVar[bool] = False
    """Whether a file may hold several layers of values, so that the options `layer` and `gene_names` apply."""

    @abstractmethod
    def read(self, path: Path, options: ReadOptions) -> Matrix:
        """Read a file.

        Raises:
            InputError: The file is damaged, or does not hold what the options state.
        """


class SampleFileFormat(RnaFormat):
    """A format whose files hold one sample each."""

    def select(self, paths: list[Path]) -> list[Path]:
        """Leave out files of a folder that repeat the content of others; by default none."""
        return paths

    @abstractmethod
    def read(self, paths: Sequence[Path], options: ReadOptions) -> Matrix | SymbolTable:
        """Read the files of a cohort; a `SymbolTable` if the format itself names the symbols and the scale.

        Raises:
            InputError: A file is damaged, two files are of one sample, or the files do not hold what the options state.
        """
