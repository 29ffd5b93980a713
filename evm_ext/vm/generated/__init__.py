"""Hot code as Python: bytecode is followed symbolically, and what it does to stack, memory and gas is written as Python.

`values.py` what is known of a word while code is followed; `memory.py` what of memory is known by name; `path.py` what
following gives; `trace.py` follows a path and its branches; `shape.py` what is seen without following; `profile.py` what of
a machine's opcodes may be written inline; `source.py` writes a trace as a Python function; `runtime.py` is what such
functions call; `cache.py` decides what is compiled and keeps it; `run.py` runs a frame.
"""
