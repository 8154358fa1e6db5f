"""The tables: the catalogue (items, projects, datasets, attributes) and what happens to datasets (claims, statuses)."""

from server.models.attributes import Attribute
from server.models.claims import Claim
from server.models.counts import StateCount
from server.models.datasets import Dataset
from server.models.installation import Installation
from server.models.items import Item
from server.models.projects import Project
from server.models.statuses import Status

__all__ = ["Attribute", "Claim", "Dataset", "Installation", "Item", "Project", "StateCount", "Status"]
