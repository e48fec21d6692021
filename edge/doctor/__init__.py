"""`edge-inspect doctor`: machine and line, before the first part."""
