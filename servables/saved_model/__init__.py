"""Platform "tensorflow": SavedModels of TF1, TF2 and Keras, loaded and run as TF Serving's C++ server does.

`platform` is light and checks files; everything else here imports TensorFlow and belongs to the process of one version:

    load_bundle          path -> session with restored variables, and the MetaGraphDef
    to_signatures        its SignatureDefs as values
    keeps_state          whether running it twice is harmless
    quantizing           plain integers in place of TensorFlow's quantized types
    SavedModelServable   runs it, through a cache of session callables
"""
