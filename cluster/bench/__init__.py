"""A load tester for whatever speaks TensorFlow Serving's API: what `aspired bench` runs. Needs neither Ray nor TensorFlow.

    what is sent      input_file, generated_input -> load_request      encoded once, before anything is measured
    how it is sent    sweep -> load (closed or open loop; arrivals)
    senders           generator_process -> generator -> http_connections | grpc_connections      processes of their own
    what comes back   sample (latency_histogram) -> measurement (stability) -> point (knee)
    the server's view server_metrics: what its own metrics say of the same time

`load_test` brings these together. The generators are processes of their own, so that showing and scraping never stand in a
request's way; the rest decides and computes, and knows neither sockets nor clocks.
"""
