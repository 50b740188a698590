"""A stand-in amoCRM over HTTP, for the demo, for tests and for people who develop against it."""

from b2bua.sandbox.app import create_sandbox
from b2bua.sandbox.faults import Act, Fault
from b2bua.sandbox.seed import (
    EXAMPLE,
    SandboxSeed,
    SeedAccount,
    SeedCompany,
    SeedContact,
    SeedIntegration,
    SeedLead,
    SeedUser,
)
from b2bua.sandbox.server import Sandbox, run_sandbox, running_sandbox
from b2bua.sandbox.state import CallEntry, Card, SandboxState

__all__ = [
    "EXAMPLE",
    "Act",
    "CallEntry",
    "Card",
    "Fault",
    "Sandbox",
    "SandboxSeed",
    "SandboxState",
    "SeedAccount",
    "SeedCompany",
    "SeedContact",
    "SeedIntegration",
    "SeedLead",
    "SeedUser",
    "create_sandbox",
    "run_sandbox",
    "running_sandbox",
]
