"""Publishing versions where servers find them: whole or not at all, each under a number of its own.

What is decided is pure: `version_number`, `claim`, `published_version`, `retention`. `export` looks at what is to be published.
A `Reservation` holds one number while a version is written, for object stores by a claim and for file systems by a hidden
directory; `publisher`, `puller` and `remover` move the files. Nothing here knows servers: `cluster.client.publish` asks
them what they serve.
"""
