"""Where models lie: local file systems and object stores behind one small interface.

`Storage` is what sources and caches read, `WritableStorage` what publishers write besides. `Storages` picks the one for a path
by its scheme. What says that a version is whole is pure (`version_manifest`), and the same for all of them.
"""
