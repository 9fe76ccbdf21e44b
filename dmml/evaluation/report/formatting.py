"""Format numbers, days and lists for readers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dmml.evaluation import interval_settings


def number(value: float | None, digits: int = 2) -> str:
    """Format a number: 0.714 → 0.71; an em dash if undefined; with a true minus sign."""
    if value is None or value != value:
        return "—"
    return minus_signs(f"{value:.{digits}f}")


def in_unit(value: float, unit: str = "") -> str:
    """Format a measured value with three significant digits, whole above 100, and its unit: 0.7143 → 0.714, 63.27 → 63.3 %."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 2
    text = number(value, min(max(digits, 0), 12))
    return f"{text} {unit}" if unit else text


def axis_label(name: str, unit: str) -> str:
    """Label of an axis: tumor purity (%)."""
    return f"{name} ({unit})" if unit else name


def signed(value: float, digits: int = 2) -> str:
    """Format a number with its sign: 0.714 → +0.71; a true minus sign, and a plus for values that round to 0."""
    text = f"{value:+.{digits}f}"
    return minus_signs(text) if float(text) else f"+{0:.{digits}f}"


def minus_signs(text: str) -> str:
    """Replace hyphens by true minus signs."""
    return text.replace("-", "−")


def percent(share: float) -> str:
    """Format a share: 0.704 → 70 %, with a true minus sign."""
    return minus_signs(f"{100 * share:.0f} %")


def p_text(p: float | None) -> str:
    """Format a p value: = 0.03, < 0.001, not defined."""
    if p is None or p != p:
        return "not defined"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def joined(items: Sequence[str]) -> str:
    """Join items as in a sentence: a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def horizon_name(day: float) -> str:
    """Name a day: 365 → 1 year, 1095 → 3 years, 200 → 200 days."""
    years = day / 365
    if abs(years - round(years)) < 0.01 and round(years) > 0:
        return f"{round(years)} year{'s' if round(years) > 1 else ''}"
    return f"{day:g} days"


def event_by(horizon: str) -> str:
    """Name the outcome at a horizon: 1 year → event by 1 year."""
    return f"event by {horizon}"


def with_interval(entry: Mapping[str, Any], digits: int = 2) -> str:
    """Format an estimate {value, low, high} with its interval: 0.71 (95 % interval 0.62 to 0.79)."""
    value, low, high = (number(entry[key], digits) for key in ("value", "low", "high"))
    return value if entry["low"] is None else f"{value} ({interval_settings.level_text()} interval {low} to {high})"
