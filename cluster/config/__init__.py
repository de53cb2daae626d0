"""What a server is told to do, as frozen values that are valid once they exist.

    flags --> ServerOptions --+
    model config file --------+--> ServerConfig --> the server and its actors
    batching parameters file -+

`server_options` declares every flag once; `flags` parses them and writes the help. `model_config` and
`batching_parameters_file` read TF Serving's text files. `native_config` reads our own form of the model config, in YAML
(`yaml_document`, `native_fields`): the same models, each with `model_settings`; `native_config_text` writes it. `server_config`
brings all of it together, and `names` says what the server's actors and applications are called in Ray. `flag_reference` and
`field_reference` make docs/flags.md and the tables of docs/configuration.md. Every error here is a `ConfigError`: one line that
names the flag or the field, and the fix.
"""
