"""Channels: one class per provider and medium."""
