"""The data plane on Ray: version replicas and frontends as Serve deployments, and the loader that deploys them.

`VersionReplica` is the process of one servable version on one slot; `DeploymentLoader` brings a version's replicas up and
down through `ServeApplications`, the only place that talks to Serve's control plane; `HandleChannel` carries frames from a
frontend to them. `FrontendReplica` is the shell of `servables.frontend`, deployed by `ServeFrontendFleet`; `GpuHolder` takes
the devices from Ray.
"""
