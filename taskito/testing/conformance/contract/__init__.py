"""The contract stage: what each operation of the seam promises, one module per topic."""

from __future__ import annotations

from taskito.testing.conformance.contract.cancel import CancelContract
from taskito.testing.conformance.contract.capability import CapabilityContract
from taskito.testing.conformance.contract.claim import ClaimContract
from taskito.testing.conformance.contract.dead_letter_limits import DeadLetterLimitsContract
from taskito.testing.conformance.contract.dependencies import DependenciesContract
from taskito.testing.conformance.contract.enqueue import EnqueueContract
from taskito.testing.conformance.contract.inspect import InspectContract
from taskito.testing.conformance.contract.lifecycle import LifecycleContract
from taskito.testing.conformance.contract.limits import LimitsContract
from taskito.testing.conformance.contract.locks import LocksContract
from taskito.testing.conformance.contract.maintain import MaintainContract
from taskito.testing.conformance.contract.namespaces import NamespacesContract
from taskito.testing.conformance.contract.pages import PagesContract
from taskito.testing.conformance.contract.pauses import PausesContract
from taskito.testing.conformance.contract.progress_log import ProgressLogContract
from taskito.testing.conformance.contract.purge import PurgeContract
from taskito.testing.conformance.contract.replay import ReplayContract
from taskito.testing.conformance.contract.rescue import RescueContract
from taskito.testing.conformance.contract.retry import RetryContract
from taskito.testing.conformance.contract.schedule import ScheduleContract
from taskito.testing.conformance.contract.settle import SettleContract
from taskito.testing.conformance.contract.unique import UniqueContract
from taskito.testing.conformance.contract.wait import WaitContract
from taskito.testing.conformance.contract.worker import WorkerContract
from taskito.testing.conformance.contract.workflows import WorkflowsContract

__all__ = ["ContractStage"]


class ContractStage(
    LifecycleContract,
    EnqueueContract,
    ClaimContract,
    SettleContract,
    RetryContract,
    MaintainContract,
    RescueContract,
    CancelContract,
    InspectContract,
    PagesContract,
    PurgeContract,
    WaitContract,
    UniqueContract,
    DependenciesContract,
    WorkflowsContract,
    PausesContract,
    LimitsContract,
    LocksContract,
    DeadLetterLimitsContract,
    ProgressLogContract,
    ReplayContract,
    ScheduleContract,
    NamespacesContract,
    CapabilityContract,
    WorkerContract,
):
    """Every topic of the contract."""
