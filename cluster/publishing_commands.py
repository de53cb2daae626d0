"""The commands about published versions, as `aspired` has them."""

from __future__ import annotations

from cluster.publish_command import publish
from cluster.pull_command import pull
from cluster.unpublish_command import unpublish
from cluster.versions_command import versions

PUBLISHING_COMMANDS = (publish, versions, pull, unpublish)
