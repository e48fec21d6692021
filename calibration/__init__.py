"""Data sets, calibration, thresholds and evaluation: numpy and an edge Backend; never torch."""
