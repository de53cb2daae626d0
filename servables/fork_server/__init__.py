"""Starting replicas by forking a process that has TensorFlow imported, in place of importing it in each.

Ray starts the worker of a version replica with the `start_command` for a Python. That sends what makes a process, a
`StartRequest`, to the node's `ForkServer` and ends; a fork of the server goes on as Ray's worker (`forked_worker`). Whatever is
wrong, the command becomes the worker itself, as Ray would have started it.

The command runs before every replica, so nothing that it imports imports more than the standard library.
"""
