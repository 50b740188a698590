"""Groups of an office: numbers that ring several extensions."""

from __future__ import annotations

from starlette.responses import Response

from b2bua.apply.office import Part
from web.forms import Block
from web.setup.things import MOST_LISTED, ThingPages, matching, office_of
from web.visits import Visit


class GroupPages(ThingPages):
    part = Part.GROUP
    template = "group.html"
    blocks = (
        Block("Basics", ("number", "name", "members")),
        Block("How it rings", ("strategy", "ring_seconds", "member_seconds")),
        Block("Where calls go on", ("on_no_answer", "on_busy", "on_unregistered")),
    )

    async def index(self, visit: Visit) -> Response:
        office = await office_of(visit, self._offices)
        wanted = visit.request.query_params.get("q", "")
        found = matching(office.all_of(Part.GROUP), wanted)
        return await visit.page("groups.html", client=office.client, here="groups", wanted=wanted,
                                groups=found[:MOST_LISTED], found=len(found))
