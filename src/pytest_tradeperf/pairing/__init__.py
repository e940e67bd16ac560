"""Paired measurement: accepted code and present code, in two processes, in turns, on this machine, now."""
