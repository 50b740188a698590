"""How each client's account is entered, as people read it: the state, until when, and what to do."""

from __future__ import annotations

from datetime import datetime, timedelta

from b2bua.cdr import ClientId
from b2bua.crm.amocrm.access import expiry_of
from b2bua.crm.health import Status
from b2bua.directory import CrmAccount
from b2bua.store.tokens import Connection, ConnectionState

SOON = timedelta(days=14)              # before a way in ends


def status_of(
    client: ClientId, account: CrmAccount, saved: Connection | None, now: datetime, trouble: str = ""
) -> Status:
    if account.token:
        return _of_a_token(client, account.token, now)
    again = f"authorise it again: smartswitch crm link --client {client}"
    if not account.client_secret:
        return Status(client, "OAuth" if account.client_id else "long-lived token", "locked", None, None,
                      "its secrets are sealed with a key that we do not have",
                      "add the old key to database.secret_keys, or apply the file with its secrets again")
    if saved is None or saved.client_id != account.client_id:
        return Status(client, "OAuth", "not connected", remedy=f"smartswitch crm link --client {client}")
    if saved.tokens is None:
        return Status(client, "OAuth", "locked", saved.since, None, saved.problem,
                      f"add the old key to database.secret_keys, or {again}")
    until = saved.tokens.refresh_until
    remedy = "" if saved.state is ConnectionState.CONNECTED else again
    if saved.state is ConnectionState.UNCERTAIN:
        remedy = f"wait for a success or {again}"
    problem = saved.problem or trouble
    if trouble and not remedy:
        remedy = "see to the integration and its user in amoCRM"
    if until - now < SOON and not remedy:
        problem, remedy = "its tokens have not been renewed for long", f"let amoCRM be reached, or {again}"
    return Status(client, "OAuth", saved.state.value, saved.since, until, problem, remedy)


def _of_a_token(client: ClientId, token: str, now: datetime) -> Status:
    until = expiry_of(token)
    another = "make another long-lived token in the integration, and apply it"
    if until is not None and until <= now:
        return Status(client, "long-lived token", "expired", until, until, "", another)
    if until is not None and until - now < SOON:
        return Status(client, "long-lived token", "connected", None, until, f"it ends on {until:%Y-%m-%d}", another)
    return Status(client, "long-lived token", "connected", None, until)
