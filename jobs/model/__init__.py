"""Statuses, profiles and result fields: data without I/O."""
