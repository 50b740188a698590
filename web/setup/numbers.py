"""Outside numbers of an office: where their calls go, and when they are open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from b2bua.apply.entries import Entry
from b2bua.apply.office import Office, Part
from web.forms import Block
from web.setup.things import MOST_LISTED, ThingPages, matching, office_of
from web.visits import Visit

# Offered first, by country; what a new number begins with is the first of its country's.
TIME_ZONES: Mapping[str, tuple[str, ...]] = {
    "RU": ("Europe/Moscow", "Europe/Kaliningrad", "Europe/Samara", "Asia/Yekaterinburg", "Asia/Omsk",
           "Asia/Krasnoyarsk", "Asia/Irkutsk", "Asia/Yakutsk", "Asia/Vladivostok", "Asia/Magadan", "Asia/Kamchatka"),
    "KZ": ("Asia/Almaty",), "BY": ("Europe/Minsk",), "UZ": ("Asia/Tashkent",), "AM": ("Asia/Yerevan",),
    "GE": ("Asia/Tbilisi",), "KG": ("Asia/Bishkek",),
}
_HOURS = ("hours.open", "hours.otherwise", "hours.holidays", "hours.time_zone")


class NumberPages(ThingPages):
    part = Part.NUMBER
    template = "number.html"
    blocks = (
        Block("Basics", ("number", "destination", "ring_seconds", "trunk")),
        Block("Hours", _HOURS),
        Block("Where calls go on", ("on_no_answer", "on_busy", "on_unregistered"), folded=True),
    )

    async def index(self, visit: Visit) -> Response:
        office = await office_of(visit, self._offices)
        wanted = visit.request.query_params.get("q", "")
        found = matching(office.all_of(Part.NUMBER), wanted)
        return await visit.page("numbers.html", client=office.client, here="numbers", wanted=wanted,
                                numbers=found[:MOST_LISTED], found=len(found))

    def values_of(self, form: Mapping[str, str], entry: Entry | None, names: Sequence[str]) -> dict[str, Any]:
        """A time zone alone says nothing: the number is always open."""
        values = super().values_of(form, entry, names)
        if not any(form.get(name, "").strip() for name in _HOURS if name != "hours.time_zone"):
            values.pop("hours", None)
        return values

    def first_texts(self, office: Office) -> Mapping[str, str]:
        country = office.entry.country if office.entry is not None else ""
        return {"hours.time_zone": TIME_ZONES.get(country, ("",))[0]}

    def suggestions(self, names: Sequence[str]) -> Mapping[str, str]:
        return {**super().suggestions(names), "trunk": "trunks", "hours.time_zone": "time-zones"}

    async def lists(self, office: Office) -> Mapping[str, list[tuple[str, str]]]:
        return {**await super().lists(office), "trunks": [(name, "") for name in office.all_of(Part.TRUNK)],
                "time-zones": [(zone, "") for zones in TIME_ZONES.values() for zone in zones]}
