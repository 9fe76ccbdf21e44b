"""Where the results of a cross-validation come from: its record, its configuration, and the command to repeat it."""

from __future__ import annotations

from dmml.evaluation.crossval.results import JOINED, CrossvalResult
from dmml.evaluation.report.provenance import flat


def provenance(result: CrossvalResult) -> list[tuple[str, str]]:
    """(name, value) of every record about data, seeds and versions."""
    rows = [("folder", str(result.folder)), ("patients with known outcome", str(result.content["patients"]))]
    if result.content.get("events") is not None:
        rows.append(("events", str(result.content["events"])))
    rows.append(("folds, over all repeats", str(result.n_folds)))
    rows += [("repeats", str(result.n_repeats)), ("seeds", str(result.n_seeds))]
    version = {key: result.plan[key] for key in ("dmml", "seed_everything") if key in result.plan}
    hashes = {f"hash of {option}": value for option, value in (result.plan.get("file") or {}).items()}
    record = {key: value for key, value in result.record.items() if key not in ("command", "digest")}
    return rows + flat(version, "") + flat(hashes, "") + flat(record, "")


def configuration(result: CrossvalResult) -> str:
    """The sections of the config that was run, as YAML for `--config`; empty if the plan is lost."""
    if "data" not in result.plan:
        return ""
    import yaml

    names = ("model", "student", "data", "trainer", "student trainer")
    sections = {name: result.plan[name] for name in names if result.plan.get(name)}
    return yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)


def command(result: CrossvalResult) -> str:
    """The command that was run; if it was not recorded, one like it."""
    if result.record.get("command"):
        return str(result.record["command"])
    options = " --student STUDENT.yaml" if result.plan.get("student") else ""
    options += f" --seeds {result.n_seeds}" if result.n_seeds > 1 else ""
    options += f" --repeats {result.n_repeats}" if result.n_repeats > 1 else ""
    options += " --cross-fit" if result.plan.get("cross_fit") else ""
    models = ",".join(name for name in result.models if not name.endswith(JOINED))
    return f"dmml crossval --config CONFIG.yaml{options} --models {models} --out {result.folder}"
