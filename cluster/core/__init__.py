"""What Aspired decides, without anything that acts: no Ray, TensorFlow, gRPC, asyncio, clock or file in this package.

    Source --AspiredVersion lists--> events --> AspiredVersionsState --> instructions --> Loader
                                                        |
           ServableStream -> LoaderHarness, AspiredVersionPolicy, Retrier, ResourceLedger

`servable_id`, `aspired_version`, `servable_state`, `resources`, `serving_map` and `errors` are the values that every other part
speaks in. `events` come in and `instructions` go out of `aspired_versions_state`, the one state machine; its parts are plain
objects beside it. `source` and `loader` are what others implement. Whatever depends on time is given `now`.
"""
