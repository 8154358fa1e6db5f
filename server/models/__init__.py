"""The tables: the catalogue, what happens to datasets, people's rights, and what people changed."""

from server.models.attributes import Attribute
from server.models.claims import Claim
from server.models.counts import ClaimCount, StateCount
from server.models.datasets import Dataset
from server.models.failures import Failure
from server.models.history import Change, WorkflowVersion
from server.models.installation import Installation
from server.models.items import Item
from server.models.log_tails import LogTail
from server.models.members import AccessToken, Membership, Role
from server.models.past_runs import PastRun
from server.models.projects import Project
from server.models.sign_in import SignInAttempt
from server.models.statuses import Status
from server.models.webhooks import Webhook, WebhookDelivery, WebhookEvent

__all__ = [
    "AccessToken",
    "Attribute",
    "Change",
    "Claim",
    "ClaimCount",
    "Dataset",
    "Failure",
    "Installation",
    "Item",
    "LogTail",
    "Membership",
    "PastRun",
    "Project",
    "Role",
    "SignInAttempt",
    "StateCount",
    "Status",
    "Webhook",
    "WebhookDelivery",
    "WebhookEvent",
    "WorkflowVersion",
]
