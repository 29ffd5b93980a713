"""Proof codecs: bytes in, values out, no sockets, no chain, no VM.

Whoever commits to something (a corpus, vectors, a receipt, a settlement) and whoever checks it
(a precompile, a contract's test, the sceptic's command line) uses these same functions. The byte
formats are fixed in this folder's README.
"""
