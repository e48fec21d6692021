"""Two kernels: from the networks' feature maps to the anomaly map; from a camera picture to the engine's.

*.cuh                   what a block does, the same source for GPU and host
affinity.cu resize.cu   the launches; *_host.cpp: the same as plain loops on the CPU
constants.py problem.py  what the affinity must know of a detector; where everything lies in memory
resize.py               the steps of the resize as tables
compile.py              what compiles them
launch.py cuda.py       what starts them; the GPU's memory, streams and graphs

docs/kernels.md tells how it works.
"""
