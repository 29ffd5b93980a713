"""Documents of other kinds become text before they are contributed.

Only text is registered, indexed and paid for: what a library makes of a PDF may change with its next version, and nobody
could recompute it. So the contributor's own machine extracts the text once, shows it, and contributes that; the metadata
names the file it came from by its hash.

| file | does |
|---|---|
| `pdf.py` `word.py` `records.py` | one kind of file each (`records.py`: .csv, .jsonl and .parquet): bytes in, text out |
| `text.py` | puts the text together, never more than its limit |
| `worker.py` | runs one of them in a process that can open nothing, start nothing and is cut off by limits |
| `extract.py` | starts that process: `extract_file` |
"""
