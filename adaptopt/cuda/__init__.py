"""CUDA: the kernels, arrays and streams of a device."""
