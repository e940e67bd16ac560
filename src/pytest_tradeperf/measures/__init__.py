"""Instruments: each module measures one thing and judges nothing."""
