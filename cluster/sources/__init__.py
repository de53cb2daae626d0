"""Where versions come from: implementations of `cluster.core.source.Source`.

A source says which versions should be served, never how. `FileSystemStoragePathSource` finds them as numbered directories
under a model's base path; `StaticSource` is told them. What the former looks at is a `cluster.storage.storage.Storage`.
"""
