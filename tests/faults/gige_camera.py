"""A real GigE Vision camera on loopback; run by the system's python3, which has Aravis's bindings.

/usr/bin/python3 gige_camera.py SERIAL [LOST]    prints "ready"; LOST is the share of packets that get lost
"""

import sys

import gi

gi.require_version("Aravis", "0.8")
from gi.repository import Aravis, GLib  # noqa: E402

camera = Aravis.GvFakeCamera.new_full("127.0.0.1", sys.argv[1], None)
camera.set_property("gvsp-lost-ratio", float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
if not camera.is_running():
    sys.exit("the port of GigE Vision's control channel is taken")
print("ready", flush=True)
GLib.MainLoop().run()
