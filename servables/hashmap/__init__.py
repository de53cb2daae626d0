"""Platform "hashmap": a table of strings as a servable, after TF Serving's `servables/hashmap`.

It shows how small a platform can be, and loads in no time, without TensorFlow.
"""
