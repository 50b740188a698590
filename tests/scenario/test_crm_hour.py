"""amoCRM is away for an hour while the office goes on: what arrives later, with which times, and nothing twice."""

from __future__ import annotations

import asyncio

import pytest

from b2bua.crm import outbox as limits
from b2bua.crm.functions import CardKind, CrmFunctions, CrmRules
from b2bua.crm.lookup import PATIENCE
from b2bua.sandbox.faults import Act, Fault
from tests.support.amo_office import hand_over, office_of
from tests.support.amo_post import IVAN, AmoPost, wall
from tests.support.memory_outbox import State
from tests.support.office import DID
from tests.support.phone import Answers, Rings

MOBILE = "+79160000001"
EVERYTHING = CrmFunctions(create_on_incoming=True, create_on_outgoing=True, task_on_new_contact=True,
                          task_on_missed=True, rules=CrmRules(incoming_missed=CardKind.CONTACT))
FAILURES = {
    "nothing answers": Fault("/api/*", act=Act.SILENCE), "503": Fault("/api/*", act=Act.ANSWER, status=503),
    "done, but the answer is lost": Fault("/api/*", act=Act.RESET, committed=True),
    "not paid": Fault("/api/*", act=Act.ANSWER, status=402),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_5_amocrm_is_down_for_an_hour(failure: Fault) -> None:
    """What arrives later, with which times, and no doubles? And nobody waits for it meanwhile."""
    post = AmoPost(functions=EVERYTHING)
    async with office_of(post) as (office, outbox):
        phones = [await office.phone(number) for number in ("101", "102")]
        post.state.faults.add(failure)
        waited: list[float] = []
        for minute in range(0, 60, 5):
            is_talk = minute % 10 == 0
            for phone in phones:
                phone.does = Answers(after=0.5) if is_talk else Rings()
                phone.forget()
            asked_at = asyncio.get_running_loop().time()
            call = office.trunk.call(DID, as_=(IVAN, MOBILE)[minute // 10 % 2])
            await call.rang.wait()
            waited.append(asyncio.get_running_loop().time() - asked_at)
            if is_talk:
                await call.answered.wait()
                await asyncio.sleep(10 + minute)
                call.hang_up()
            await call.over.wait()
            await office.record(len(waited))
            hand_over(office, post, outbox)
            await asyncio.sleep(300 - (asyncio.get_running_loop().time() - asked_at))
        post.state.faults.clear()
        await asyncio.sleep(4 * limits.LONGEST_RETRY)
        assert max(waited) < PATIENCE + 0.5
        records = sorted(office.books.records, key=lambda record: record.started_at)
        assert all(row.state is State.DONE for row in post.store.rows)
    told = sorted(post.state.calls(), key=lambda entry: entry.created_at)
    assert [(entry.uniq, entry.created_at, entry.talk_seconds, entry.phone) for entry in told] == [
        (record.id, int(record.started_at.timestamp()), record.talk_seconds, record.caller) for record in records]
    assert [contact.phones for contact in post.contacts[1:]] == [[MOBILE]]
    began = int(next(record for record in records if record.caller == MOBILE).started_at.timestamp())
    assert post.contacts[1].created_at == began
    missed = [record for record in records if record.answered_at is None]
    due = {int(record.ended_at.timestamp()) + 15 * 60 for record in missed}
    call_backs = [task for task in post.tasks if task.text.startswith("Перезвонить")]
    assert call_backs
    assert all(task.complete_till in due for task in call_backs)
    assert wall().timestamp() > max(due)
    assert post.sandbox.rate.highest <= 5
