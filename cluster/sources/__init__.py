"""Where versions come from: implementations of `cluster.core.source.Source`, and the storage that they look at.

A source says which versions should be served, never how. `FileSystemStoragePathSource` finds them as numbered directories
under a model's base path; `StaticSource` is told them. `Storage` is what the former needs of a file system or an object store.
"""
