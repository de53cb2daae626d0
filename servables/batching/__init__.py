"""Running many calls as one: TF Serving's batching, inside a replica.

`batch` is arrays only: it joins the inputs of several calls along dimension 0 and cuts the outputs apart again.
`batch_scheduler` decides, without threads or a clock, which calls go together, when, and which are turned away.
`batcher` is the shell: an event loop on one side, the threads that run the servable on the other.
"""
