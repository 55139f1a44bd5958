"""Load on an installation: devices in processes of their own, what became of their requests, and the charts of it.

`generators` are the processes, `asked` the requests and the figures made of them, `chart` draws these;
`python benchmarks/load.py` uses them.
"""
