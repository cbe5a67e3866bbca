"""Wordings per locale, digits that are spelled, and limits per provider language."""
