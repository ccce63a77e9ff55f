"""Kernels in C for a CPU, where there is a compiler: what XLA leaves slow there, called from its programs."""
