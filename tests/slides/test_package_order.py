"""The packages of `dmml/slides` import in one direction, from files to tiles to features."""

import ast

ORDER = ("slide_error", "storage", "wsi", "geojson", "stains", "tiling", "reading", "failures", "companion_files", "progress_bars", "staging", "discovery", "encoders", "qc", "extraction", "importing", "vectors", "tokens", "verify", "overlay", "ome_tiff", "parametric_map", "label_folder")  # fmt: skip
"""A package or module imports only from those before it, also for type checking."""


def test_slide_packages_import_only_from_earlier_packages(repository):
    folder, wrong = repository / "dmml" / "slides", []
    for file in sorted(folder.rglob("*.py")):
        package = file.relative_to(folder).parts[0].removesuffix(".py")
        if package == "__init__":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dmml.slides."):
                other = node.module.split(".")[2]
                if ORDER.index(other) > ORDER.index(package):
                    wrong.append(f"{file.relative_to(folder)} imports {node.module}")
    assert wrong == []
