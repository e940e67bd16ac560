"""Judgement: records in, verdicts out. No files, no clock, no configuration."""
