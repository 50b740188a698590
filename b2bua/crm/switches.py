"""The functions as the widget's settings have them: F5 to F10, each on or off. The rules behind them are not the
widget's, and stay."""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from b2bua.crm.functions import CrmFunctions


class Switches(BaseModel):
    """JSON of the widget. A switch that is not in it stays as it is: widgets of several versions are about."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    forward_to_responsible: bool = Field(default=True, description="F5")
    set_caller_name: bool = Field(default=True, description="F6")
    create_on_incoming: bool = Field(default=False, description="F7")
    create_on_outgoing: bool = Field(default=False, description="F8")
    task_on_new_contact: bool = Field(default=False, description="F9")
    task_on_missed: bool = Field(default=False, description="F10")

    def set_in(self, functions: CrmFunctions) -> CrmFunctions:
        return replace(functions, **self.model_dump(exclude_unset=True))
