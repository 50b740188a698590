"""A stand-in amoCRM over HTTP, for the demo, for tests and for people who develop against it."""

from b2bua.sandbox.app import create_sandbox
from b2bua.sandbox.faults import Act, Fault
from b2bua.sandbox.in_process import InProcessSandbox, SandboxTransport, in_process_sandbox
from b2bua.sandbox.presets import preset
from b2bua.sandbox.seed import (
    EXAMPLE,
    SandboxSeed,
    SeedAccount,
    SeedCompany,
    SeedContact,
    SeedCustomer,
    SeedIntegration,
    SeedLead,
    SeedPipeline,
    SeedUser,
    SeedWidget,
)
from b2bua.sandbox.server import Sandbox, run_sandbox, running_sandbox
from b2bua.sandbox.state import SandboxState
from b2bua.sandbox.switches import QueryDigits, Switches
from b2bua.sandbox.views import CallEntry, Card

__all__ = [
    "EXAMPLE",
    "Act",
    "CallEntry",
    "Card",
    "Fault",
    "InProcessSandbox",
    "QueryDigits",
    "Sandbox",
    "SandboxSeed",
    "SandboxState",
    "SandboxTransport",
    "SeedAccount",
    "SeedCompany",
    "SeedContact",
    "SeedCustomer",
    "SeedIntegration",
    "SeedLead",
    "SeedPipeline",
    "SeedUser",
    "SeedWidget",
    "Switches",
    "create_sandbox",
    "in_process_sandbox",
    "preset",
    "run_sandbox",
    "running_sandbox",
]
