"""Splits of patients: read from files, or made."""
