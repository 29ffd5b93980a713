"""The steps of `exact-1` as Triton kernels, each in the file that its torch twin has in the folder above.

Same names, same arguments, same bits; tensors on an NVIDIA GPU, or on the CPU under `TRITON_INTERPRET=1`. Nothing here is
imported unless one of those backends is asked for, so that a machine without Triton runs everything else.
"""
