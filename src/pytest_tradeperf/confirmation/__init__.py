"""Use-case between the rungs: timings measured in pairs against the accepted code, and what they come to.

Knows neither pytest nor where the lines were stored; ``workflow`` decides from stored numbers what
cannot be measured here.
"""
