"""The life of one copy of a version in the controller's hands, and the only ways it may go.

Follows TF Serving's `core/loader_harness.h`, with two kinds of edges more: another try (a failed load is repeated, a
version in error heals) and what a restarted control plane finds.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import Status
from cluster.core.resources import ReplicaResources, Slot
from cluster.core.servable_id import CopyId, ServableId
from cluster.core.servable_state import PublicState

STORY_LENGTH = 30


class HarnessState(enum.Enum):
    """Where a version is; the values are TF Serving's debug names."""

    NEW = "new"
    LOAD_REQUESTED = "load-requested"
    LOAD_APPROVED = "load-approved"
    LOADING = "loading"
    READY = "ready"
    UNLOAD_REQUESTED = "unload-requested"
    QUIESCING = "quiescing"
    QUIESCED = "quiesced"
    UNLOADING = "unloading"
    DISABLED = "disabled"
    ERROR = "error"


_S = HarnessState

TRANSITIONS: dict[tuple[HarnessState, HarnessState], str] = {
    (_S.NEW, _S.LOAD_REQUESTED): "the policy chose to load it",
    (_S.LOAD_REQUESTED, _S.LOAD_APPROVED): "its resources are reserved",
    (_S.LOAD_APPROVED, _S.LOADING): "the manager has been told to load it",
    (_S.LOADING, _S.READY): "every replica answers and every frontend routes to it",
    (_S.READY, _S.UNLOAD_REQUESTED): "the policy chose to unload it, or a newer copy has taken its place",
    (_S.UNLOAD_REQUESTED, _S.QUIESCING): "the manager has been told to take it off the frontends",
    (_S.QUIESCING, _S.QUIESCED): "nothing is in flight in it",
    (_S.QUIESCED, _S.UNLOADING): "the manager has been told to stop its replicas",
    (_S.UNLOADING, _S.DISABLED): "nothing of it runs any more",
    # Another try.
    (_S.LOADING, _S.LOAD_REQUESTED): "the attempt has ended and another one follows",
    (_S.ERROR, _S.NEW): "healed: its files have changed, what it needs may be there now, or it was found running after all",
    # The end without a way down, and errors.
    (_S.NEW, _S.DISABLED): "aspired no longer, before anything was done",
    (_S.LOAD_REQUESTED, _S.DISABLED): "aspired no longer, while it waited for an attempt",
    (_S.LOADING, _S.DISABLED): "aspired no longer, and its load was cancelled",
    (_S.ERROR, _S.DISABLED): "aspired no longer, after its load had failed",
    (_S.NEW, _S.ERROR): "its source says that it cannot be used, or it had failed before a restart",
    (_S.LOAD_REQUESTED, _S.ERROR): "it does not fit, or its source says by now that it cannot be used",
    (_S.LOADING, _S.ERROR): "its last attempt has failed, or its source says by now that it cannot be used",
    # What a restarted control plane finds.
    (_S.NEW, _S.LOADING): "adopted: found loading",
    (_S.NEW, _S.READY): "adopted: found running",
    (_S.NEW, _S.QUIESCING): "adopted: found on its way out, or beside the copy that serves",
    (_S.LOAD_REQUESTED, _S.NEW): "found running while it waited for an attempt",
    (_S.LOADING, _S.QUIESCING): "found on its way out, or gone while its load was being cancelled; seen out",
    (_S.READY, _S.LOADING): "found gone or loading, although nobody unloaded it; asked for again in its place",
    (_S.READY, _S.LOAD_REQUESTED): "found gone, and its place with it",
    (_S.READY, _S.ERROR): "found gone, and its source says by now that it cannot be used",
}
"""Every legal step, with its reason."""

PUBLIC_STATES: dict[HarnessState, PublicState] = {
    _S.NEW: PublicState.START,
    _S.LOAD_REQUESTED: PublicState.START,
    _S.LOAD_APPROVED: PublicState.LOADING,
    _S.LOADING: PublicState.LOADING,
    _S.READY: PublicState.AVAILABLE,
    _S.UNLOAD_REQUESTED: PublicState.UNLOADING,
    _S.QUIESCING: PublicState.UNLOADING,
    _S.QUIESCED: PublicState.UNLOADING,
    _S.UNLOADING: PublicState.UNLOADING,
    _S.DISABLED: PublicState.END,
    _S.ERROR: PublicState.END,
}


LEAVING = frozenset({_S.UNLOAD_REQUESTED, _S.QUIESCING, _S.QUIESCED, _S.UNLOADING})
"""The states of a version that the policy has chosen to unload."""


class IllegalTransition(AssertionError):
    """A bug in the state machine: a step that the table does not have. Tells how the version got where it is."""

    def __init__(self, harness: LoaderHarness, to: HarnessState) -> None:
        story = "; ".join(harness.story) or "nothing yet"
        super().__init__(f"{harness.copy_id}: {harness.state.value} -> {to.value} is not a step. Its story: {story}")


@dataclass(slots=True)
class LoaderHarness:
    """One copy of a version and all that is known of it. Its state moves by `move` alone.

    `version` is what it is, or is being, loaded from; while it waits, what it will be loaded from.
    `attempts` counts the loads begun since the files last changed; `due` is when the next may begin. `instruction_id` is
    that of the instruction under way. `slots` are reserved for it, `placed` is where the manager was last told, or found, to
    run it. `begun`: a load has been begun, so it is no longer at its START. `refused`: it is in error for lack of room.
    `heals`: it is in error for a reason that may pass, and begins anew when it is `due`. `cancelling`: a CancelLoad is under
    way; with `starting_over` because its files or its nodes have changed, not because nobody wants the version.
    """

    version: AspiredVersion
    copy: int = 0
    aspired: bool = True
    state: HarnessState = HarnessState.NEW
    status: Status = Status()
    attempts: int = 0
    due: float = 0.0
    instruction_id: str = ""
    slots: tuple[Slot, ...] = ()
    placed: tuple[Slot, ...] = ()
    resources: ReplicaResources = ReplicaResources()
    begun: bool = False
    refused: bool = False
    heals: bool = False
    cancelling: bool = False
    starting_over: bool = False
    story: deque[str] = field(default_factory=lambda: deque(maxlen=STORY_LENGTH))

    @property
    def id(self) -> ServableId:
        return self.version.id

    @property
    def copy_id(self) -> CopyId:
        return CopyId(self.version.id, self.copy)

    @property
    def public_state(self) -> PublicState:
        """As GetModelStatus shows it; a version between two attempts is still LOADING."""
        if self.state is HarnessState.LOAD_REQUESTED and self.begun:
            return PublicState.LOADING
        return PUBLIC_STATES[self.state]

    @property
    def leaving(self) -> bool:
        """On the way out, which cannot be turned back: it must end before it can begin anew."""
        return self.state in LEAVING or (self.state is HarnessState.LOADING and not self.aspired)

    def move(self, to: HarnessState) -> None:
        """Takes one step. Raises IllegalTransition when the table does not have it."""
        reason = TRANSITIONS.get((self.state, to))
        if reason is None:
            raise IllegalTransition(self, to)
        self.story.append(f"{self.state.value} -> {to.value} ({reason})")
        self.state = to
        if to in (HarnessState.NEW, HarnessState.LOADING, HarnessState.READY):
            self.begun = to is not HarnessState.NEW
