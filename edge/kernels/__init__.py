"""The fused affinity kernel: from the networks' feature maps to the anomaly map and its scores.

*.cuh                   what a block does, the same source for GPU and host
affinity.cu             the three launches; affinity_host.cpp: the same as plain loops on the CPU
constants.py problem.py  what it must know of a detector; where everything lies in memory
compile.py              what compiles it
launch.py               the two ways to start it

docs/kernels.md tells how it works.
"""
