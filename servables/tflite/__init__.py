"""Platform "tflite": TensorFlow Lite models, and with --prefer_tflite_model those that lie beside a SavedModel.

`platform` is light and checks files; everything else here belongs to the process of one version:

    TfLiteModel       the flatbuffer, read without an interpreter: what keeps state in it
    Interpreter       one instance of the model: resizes, sets, invokes, gets; for one run at a time
    InterpreterPool   lends interpreters, so that runs go side by side and never share one
    TfLiteServable    checks what a client sent, and runs it on an interpreter of the pool
"""
