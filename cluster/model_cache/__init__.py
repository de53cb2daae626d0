"""The files of versions that do not lie on a local file system, kept on each node by whoever loads them there.

`ModelCache` is what a replica calls; all processes of a node that were given the same directory share it, by files and locks
alone. What to fetch in which parts (`part`) and what has to go for it (`eviction`) is pure. `CacheEntry` is one version's
directory, `Fetch` fills it.
"""
