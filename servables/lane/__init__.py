"""The lane: frames over sockets between frontends and replicas, beside Ray Serve.

lane_message    how messages lie on a connection
lane_server     a replica's end: takes frames, answers each call as it is done
lane_channel    a frontend's end: a connection to every replica of a version
lane_tls        encryption between nodes, where Ray has it
"""
