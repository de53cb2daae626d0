"""The server's side of HTTP/2 (RFC 9113) without IO: bytes in, events out; what to answer in, bytes out. No clock, no asyncio.

    frames            what a frame looks like
    header_blocks     HPACK: header lists from blocks, and blocks that leave the peer's table alone
    flood_budget      how much a peer may ask for that brings it nothing
    connection        the state of a connection and its streams, flow control in both directions, limits

Written for many small requests: a block that has been seen is not decoded again, and an answer is one piece of bytes.
"""
