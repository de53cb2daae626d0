"""The process that clients talk to: listeners, one handler for both protocols, and the way to the replicas. No Ray here.

    http_listener -- rest -----------+
                                     +-- inference -- servable_router -- frame_channel* -- a replica
    grpc_listener -- grpc_services --+

`grpc_listener` is HTTP/2 of our own (`servables.http2`), `grpc_aio_listener` gRPC's library; both serve `GrpcMethod`s.

`Frontend` puts these together. A protocol's module translates and decides nothing: what is checked in which order, and
what an error is called, is `inference`'s and the codecs' business, so that both protocols give the same answer for the same
cause. `*` is an interface: `LocalChannel` here runs calls in the process, `servables.deployment` sends them to replicas.

Too much work is refused early: `QueueBound` knows when a version's queue is too long, the listener when bodies take too much
memory, and `RefusalPace` keeps clients that come back at once from becoming the work.
"""
