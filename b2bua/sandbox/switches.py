"""Where the real server is not known for certain, or a test wants it otherwise: one setting each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class QueryDigits(Enum):
    """How `query` compares a number with what a card holds."""

    ANYWHERE = "anywhere"              # its digits, anywhere among the digits of any field
    LITERAL = "literal"                # as it is typed only
    LAST_SEVEN = "last_seven"          # the last seven digits of both


class Consent(Enum):
    """What the administrator does on the consent page of OAuth."""

    ASK = "ask"                        # a person clicks
    GRANT = "grant"
    DENY = "deny"


@dataclass(slots=True)
class Switches:
    per_second: int | None = 7         # per integration; None: not limited
    account_per_second: int | None = 50
    limit_by_address: bool = False     # the first limit is of each client's address, as Kommo words it
    only_report_rate: bool = False     # nobody is refused; see Rate.highest
    limited_as_text: bool = False      # the body of a 429
    retry_after: int | None = None     # in that body, when it is JSON
    block_after: int = 100             # 429s in a minute, then 403 until `unblock`
    query_digits: QueryDigits = QueryDigits.ANYWHERE
    mixed_calls_status: int = 200      # of a batch of calls of which some found nobody
    call_status_as_string: bool = False    # when notes are read
    duplicate_unsorted_status: int = 400
    unsorted_off_status: int = 400
    has_filters: bool = False          # the paid add-on
    next_never_ends: bool = False      # each page's link leads on to itself
    consent: Consent = Consent.ASK
    wrong_client_status: int = 400     # of a wrong id or secret at the token endpoint
    old_host_status: int = 401         # of an account that was renamed
    is_paid: bool = True
