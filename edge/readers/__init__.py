"""Programs of their own that read a camera: a driver that hangs is killed with its process, and replaced.

Each knows one library. Nothing here needs more than Python 3.10 and that library, so that Debian's python3,
which has the bindings of Aravis and GStreamer, can run it for a station in a virtual environment.
"""
