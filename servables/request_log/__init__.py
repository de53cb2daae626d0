"""Request logging: what models are asked and what they answer, sampled, as TFRecord files of PredictionLogs.

    event loop                                          a thread
    RequestLog.offer --> sampled? --> RecordQueue ------> make the message --> RecordSink

request_log      what a frontend sees of one model's log
request_logger   the logs of all models of a frontend, and the thread that writes them
record_queue     what waits for the thread; bounded, and never waited for
record_sink      where records go
record_files     ... local files that are rotated, renamed when they are complete, and bounded together
"""
