"""One request over all parties, with times: who sends what to whom, who works when, and what waits for what.

`inside` notes messages and work in each daemon, and in this process for the device; nothing in them knows of it.
`events` puts the notes together and finds the chain that the answer waited for, `chart` draws it, and `one_request`
does all of this for `python benchmarks/network.py --timeline FILE`.
"""
