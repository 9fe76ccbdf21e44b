"""Describe a slide of the attention maps in a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmml.evaluation.report.formatting import horizon_name, number


def slide_facts(facts: Mapping[str, Any]) -> str:
    """Patient, slide, outcome and prediction, as far as they are known."""
    known_facts = {key: value for key, value in facts.items() if value == value and value != ""}  # NaN means unknown
    patient, slide = known_facts.get("patient_id"), known_facts.get("slide_id")
    parts = [f"patient {patient}"] if patient is not None else []
    if slide is not None and slide != patient:
        parts.append(f"slide {slide}")
    if known_facts.get("risk") is not None:
        parts.append(f"risk {number(float(known_facts['risk']))}")
    if known_facts.get("time") is not None:
        parts.append(f"{_state(known_facts.get('event'))} {_duration(float(known_facts['time']))}")
    if known_facts.get("predicted") is not None:
        parts.append(f"predicted {known_facts['predicted']}")
    if known_facts.get("label") is not None:
        parts.append(f"true {known_facts['label']}")
    return ", ".join(parts)


def _state(event: float | None) -> str:
    if event is None:
        return "followed for"
    return "event after" if float(event) > 0 else "event-free for"


def _duration(days: float) -> str:
    return horizon_name(round(days)) if days < 730 else f"{days / 365.25:.1f} years"
