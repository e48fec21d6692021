"""The station: cameras, inference, verdicts, outputs. Knows files and pixels; never torch."""

__version__ = "0.1.0"
