"""The apply file is checked whole before anything changes, and says where each fault is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from b2bua.apply.difference import Change, difference
from b2bua.apply.file import merged, read_directory
from b2bua.cdr import ClientId
from b2bua.directory import Client, Directory, Extension, Hours, Strategy
from b2bua.faults import ConfigurationFaults
from b2bua.numbers import NumberFormat
from b2bua.sip.auth import ha1
from b2bua.trunk_profiles import PROFILES, CallerSource
from tests.support.certificates import DAY, Authority

GOOD = """\
[[client]]
id = "acme"
name = "Acme"
[client.crm]
base_url = "https://acme.amocrm.ru/"
token = "secret-token"
patience = 1.0
[[client.trunk]]
name = "operator"
host = "sip.example.org"
networks = ["192.0.2.0/24"]
caller_id = "8 495 765-43-21"
[[client.extension]]
number = "101"
password = "plain-password"
crm_user = 77
[[client.extension]]
number = "102"
address = "sip:102@192.0.2.9"
[[client.group]]
number = "600"
members = ["101", "102"]
[[client.number]]
number = "8 (495) 765-43-21"
destination = "600"
trunk = "operator"
"""
ACME = ClientId("acme")


def read(directory: Path, text: str) -> Directory:
    path = directory / "acme.toml"
    path.write_text(text)
    return read_directory(path, "smartswitch").directory


def faults(directory: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationFaults) as wrong:
        read(directory, text)
    return [str(fault) for fault in wrong.value.faults]


def test_passwords_become_hashes_and_numbers_become_e164(tmp_path: Path) -> None:
    directory = read(tmp_path, GOOD)
    extension = directory.extension[ACME, "101"]
    assert extension.login == "acme-101"
    assert extension.ha1 == {algorithm: ha1(algorithm, "acme-101", "smartswitch", "plain-password")
                             for algorithm in ("MD5", "SHA-256")}
    assert directory.extension[ACME, "102"].ha1 == {}
    assert list(directory.did) == [(ACME, "+74957654321")]
    trunk = directory.trunk[ACME, "operator"]
    assert (trunk.caller_id, trunk.transport, str(trunk.networks[0])) == ("+74957654321", "UDP", "192.0.2.0/24")
    account = directory.client[ACME].crm
    assert account is not None
    assert (account.base_url, account.patience) == ("https://acme.amocrm.ru", 1.0)


def test_how_the_crm_is_read_ahead(tmp_path: Path) -> None:
    account = read(tmp_path, GOOD).client[ACME].crm
    assert account is not None
    assert (account.sync, account.sync_minutes, account.sync_cards, account.webhooks) == (True, 5, 100_000, True)
    own = "patience = 1.0\nsync = false\nsync_minutes = 30\nsync_cards = 2000\nwebhooks = false"
    account = read(tmp_path, GOOD.replace("patience = 1.0", own)).client[ACME].crm
    assert account is not None
    assert (account.sync, account.sync_minutes, account.sync_cards, account.webhooks) == (False, 30, 2_000, False)


def test_every_wrong_field_is_said_at_once(tmp_path: Path) -> None:
    found = faults(tmp_path, """\
[[client]]
id = "ac me"
[client.crm]
base_url = "http://crm.example.org"
token = "t"
[[client.trunk]]
name = "operator"
hots = "192.0.2.1"
[[client.extension]]
number = "10a"
password = "short"
""")
    assert [fault.partition(". ")[0] for fault in found] == [
        "line 2: client[0].id: there is something in it that does not belong there",
        "line 4: client[0].crm.base_url: the token would cross the network in the clear",
        "line 6: client[0].trunk[0].host: it is missing",
        "line 8: client[0].trunk[0].hots: there is no such setting",
        "line 10: client[0].extension[0].number: there is something in it that does not belong there",
        "line 11: client[0].extension[0].password: a password has 8 to 100 characters",
    ]


OAUTH = """\
[[client]]
id = "acme"
[client.crm]
base_url = "https://acme.amocrm.ru"
client_id = "5b0c"
client_secret = "of-the-integration"
redirect_uri = "https://pbx.example.org/amocrm/oauth"
"""


def test_an_account_is_entered_by_oauth_or_by_a_long_lived_token(tmp_path: Path) -> None:
    account = read(tmp_path, OAUTH).clients[0].crm
    assert account is not None
    assert (account.token, account.client_id, account.client_secret) == ("", "5b0c", "of-the-integration")
    assert "of-the-integration" not in repr(account)
    assert read(tmp_path, OAUTH + 'token = "long-lived"').clients[0].crm is not None


@pytest.mark.parametrize(("changed", "to", "said"), [
    ('redirect_uri = "https://pbx.example.org/amocrm/oauth"\n', "", "line 3: client[0].crm: there is no way into this"),
    ('client_secret = "of-the-integration"\n', "", "line 3: client[0].crm: an integration has an id and a secret key"),
    ("https://pbx", "http://pbx", "line 7: client[0].crm.redirect_uri: 'http://pbx.example.org/amocrm/oauth' is no"),
    ("pbx.example", "атс.example", "line 7: client[0].crm.redirect_uri: there is something in it"),
])
def test_half_an_integration_is_a_fault(tmp_path: Path, changed: str, to: str, said: str) -> None:
    (found,) = faults(tmp_path, OAUTH.replace(changed, to))
    assert found.startswith(said)


def test_every_wrong_reference_is_said_at_once(tmp_path: Path) -> None:
    found = faults(tmp_path, """\
[[client]]
id = "acme"
[[client.trunk]]
name = "op"
host = "192.0.2.1"
register = true
[[client.extension]]
number = "101"
[[client.extension]]
number = "102"
password = "12345678"
login = "anna"
[[client.group]]
number = "102"
members = ["101",
  "109"]
[[client.number]]
number = "+74957654321"
destination = "700"
trunk = "nope"
[[client.number]]
number = "84957654321"
destination = "101"
[[client]]
id = "other"
[[client.extension]]
number = "101"
password = "12345678"
login = "anna"
[[client]]
id = "acme"
""")
    assert [fault.partition(". ")[0] for fault in found] == [
        "line 6: client[0].trunk[0].register: trunk 'op' cannot register without credentials",
        "line 7: client[0].extension[0].password: extension 101 has neither a password nor a fixed address",
        "line 14: client[0].group[0].number: number 102 is there already, in line 10",
        "line 16: client[0].group[0].members[1]: there is no extension 109",
        "line 19: client[0].number[0].destination: there is no extension or group 700",
        "line 20: client[0].number[0].trunk: there is no trunk 'nope'",
        "line 22: client[0].number[1].number: number +74957654321 is there already, in line 18",
        "line 29: client[1].extension[0].login: login 'anna' is there already, in line 12",
        "line 31: client[2].id: client 'acme' is there already, in line 2",
    ]


def test_a_trunk_takes_its_profile_and_differs_from_it_by_single_rules(tmp_path: Path) -> None:
    text = GOOD.replace('caller_id = "8 495 765-43-21"', """\
profile = "rpid"
number_format = "national"
trusts = ["p-asserted-identity", "from"]
priority = 2
weight = 3
prefixes = ["+7495", "112"]
""").replace('name = "Acme"', 'name = "Acme"\ncaller_id = "84950001122"').replace(
        'crm_user = 77', 'crm_user = 77\ncaller_id = "8 (495) 000-11-33"\nhide_caller_id = true')
    directory = read(tmp_path, text)
    trunk = directory.trunk[ACME, "operator"]
    assert trunk.rules == replace(PROFILES["rpid"], number_format=NumberFormat.NATIONAL,
                                  trusts=(CallerSource.ASSERTED, CallerSource.FROM))
    assert (trunk.priority, trunk.weight, trunk.prefixes, trunk.caller_id) == (2, 3, ("+7495", "112"), "")
    assert directory.client[ACME].caller_id == "+74950001122"
    anna = directory.extension[ACME, "101"]
    assert (anna.caller_id, anna.hide_caller_id) == ("+74950001133", True)


def test_what_is_wrong_with_a_trunks_rules_is_said_with_its_remedy(tmp_path: Path) -> None:
    wrong = GOOD.replace("caller_id =", 'profile = "rpdi"\nidentity = "pai"\nprefixes = ["7x"]\nuser =')
    assert sorted(faults(tmp_path, wrong)) == [
        "line 12: client[0].trunk[0].profile: there is no profile 'rpdi'. Did you mean `rpid`?",
        "line 13: client[0].trunk[0].identity: this value is not known. Use 'none', 'p-asserted-identity', "
        "'p-preferred-identity' or 'remote-party-id' (caller id also in: none, p-asserted-identity, "
        "p-preferred-identity, remote-party-id).",
        "line 14: client[0].trunk[0].prefixes[0]: there is something in it that does not belong there. "
        "Write it another way.",
    ]
    assert [fault.partition(". ")[0] for fault in faults(tmp_path, GOOD.replace(
        'caller_id = "8 495 765-43-21"', 'profile = "registering-8"\ncaller_id = "a, b"\ntrusts = ["from", "from"]'))
    ] == [
        "line 12: client[0].trunk[0].profile: trunk 'operator' has no account that From could show",
        "line 13: client[0].trunk[0].caller_id: 'a, b' is no telephone number",
        "line 14: client[0].trunk[0].trusts: a header is named twice",
    ]


def test_a_group_has_a_strategy_and_times_that_go_with_it(tmp_path: Path) -> None:
    members = 'members = ["101", "102"]\n'
    group = read(tmp_path, GOOD.replace(members, members + 'strategy = "round"\nmember_seconds = 9\n')).groups[0]
    assert (group.strategy, group.member_seconds) == (Strategy.ROUND, 9)
    assert faults(tmp_path, GOOD.replace(members, members + "member_seconds = 9\n")) == [
        "line 23: client[0].group[0].member_seconds: the members of 600 ring together, so no one has a time of their "
        'own. Take it out, or choose another `strategy`, as "in-turn".']
    assert faults(tmp_path, GOOD.replace(members, members + 'strategy = "rnd"\n'))[0].startswith(
        "line 23: client[0].group[0].strategy: this value is not known. Use 'together', 'in-turn', 'round' or ")
    timed = GOOD.replace(members, members + 'strategy = "round"\nring_seconds = 9\n')
    assert faults(tmp_path, timed) == [
        "line 24: client[0].group[0].ring_seconds: the members of 600 ring one after another, each for "
        '`member_seconds`. Take it out, or say `strategy = "together"`.']


def test_where_calls_go_on_is_somewhere_and_never_back(tmp_path: Path) -> None:
    text = GOOD.replace('crm_user = 77', 'crm_user = 77\non_no_answer = "600"\nring_seconds = 12').replace(
        'trunk = "operator"', 'trunk = "operator"\non_busy = "102"')
    right = read(tmp_path, text)
    anna = right.extension[ACME, "101"]
    assert (anna.on_no_answer, anna.ring_seconds, anna.on_busy) == ("600", 12, None)
    assert faults(tmp_path, text.replace('destination = "600"', 'destination = "101"').replace(
        'on_busy = "102"', 'on_busy = "109"\non_unregistered = "101"')) == [
        "line 29: client[0].number[0].on_busy: there is no extension or group 109. Known in 'acme': 101, 102, 600; "
        "outside numbers begin with +.",
        "line 30: client[0].number[0].on_unregistered: from 101 calls would come back to 101. "
        "Have one of the two lead to somebody else.",
    ]
    assert faults(tmp_path, text.replace('members =', 'on_busy = "102"\nmembers =').replace(
        'address =', 'on_unregistered = "101"\naddress =')) == [
        "line 21: client[0].extension[1].on_unregistered: calls would go in a circle: 101, 600, 102, 101. "
        "Take one of these out, or have it lead to somebody else.",
        "line 31: client[0].number[0].on_busy: from 102 calls would come back to 600. "
        "Have one of the two lead to somebody else.",
    ]


def test_all_calls_of_an_extension_may_go_elsewhere_but_not_in_a_circle(tmp_path: Path) -> None:
    text = GOOD.replace('crm_user = 77', 'crm_user = 77\nforward_always = "102"')
    assert read(tmp_path, text).extension[ACME, "101"].forward_always == "102"
    assert faults(tmp_path, text.replace('address =', 'forward_always = "101"\naddress =')) == [
        "line 20: client[0].extension[1].forward_always: calls would go in a circle: 101, 102, 101. "
        "Take one of these out, or have it lead to somebody else.",
    ]


def test_a_call_may_go_on_outside_but_not_to_ourselves(tmp_path: Path) -> None:
    text = GOOD.replace('crm_user = 77', 'crm_user = 77\non_busy = "+79160000001"')
    assert faults(tmp_path, text) == [
        "line 17: client[0].extension[0].on_busy: extension 101 may not send its calls outside. "
        "Say `forward_outside = true` for client 'acme', if its extensions shall.",
    ]
    allowed = text.replace('name = "Acme"', 'name = "Acme"\nforward_outside = true')
    assert read(tmp_path, allowed).extension[ACME, "101"].on_busy == "+79160000001"
    office = GOOD.replace('members =', 'on_busy = "+79160000001"\nmembers =')          # a group's is the office's own
    assert read(tmp_path, office).groups[0].on_busy == "+79160000001"
    assert faults(tmp_path, text.replace("+79160000001", "+74957654321")) == [
        "line 17: client[0].extension[0].on_busy: +74957654321 is a number of 'acme' itself: its calls would come in "
        "again. Name where it leads: 600.",
    ]
    alone = "[[client]]\nid = \"acme\"\n[[client.extension]]\nnumber = \"101\"\naddress = \"sip:1@192.0.2.1\"\n"
    assert faults(tmp_path, alone + 'on_busy = "+79160000001"\n') == [
        "line 6: client[0].extension[0].on_busy: +79160000001 is outside, and 'acme' has no trunk. "
        "Add a [[client.trunk]].",
    ]
    assert "on_busy: there is something in it" in faults(tmp_path, alone + 'on_busy = "79160000001234"\n')[0]


def test_all_calls_of_a_number_may_go_outside_where_the_client_says_so(tmp_path: Path) -> None:
    outside = GOOD.replace('destination = "600"', 'destination = "+79160000001"')
    assert faults(tmp_path, outside) == [
        "line 25: client[0].number[0].destination: number 8 (495) 765-43-21 may not send its calls outside. "
        "Say `forward_outside = true` for client 'acme', if its numbers shall.",
    ]
    allowed = outside.replace('name = "Acme"', 'name = "Acme"\nforward_outside = true')
    assert read(tmp_path, allowed).numbers[0].destination == "+79160000001"
    again = allowed + 'on_busy = "102"\non_no_answer = "+79160000001"\n'
    assert faults(tmp_path, again) == [
        "line 29: client[0].number[0].on_no_answer: from +79160000001 calls would come back to +79160000001. "
        "Have one of the two lead to somebody else.",
    ]
    assert faults(tmp_path, allowed.replace("+79160000001", "+74957654321")) == [
        "line 26: client[0].number[0].destination: +74957654321 is a number of 'acme' itself: its calls would come in "
        "again. Name where it leads: an extension, a group or a number of somebody else.",
    ]
    at_night = '[client.number.hours]\ntime_zone = "UTC"\nopen = ["mon 09:00-18:00"]\notherwise = "+79160000001"\n'
    assert faults(tmp_path, GOOD + at_night) == [
        "line 30: client[0].number[0].hours.otherwise: number 8 (495) 765-43-21 may not send its calls outside. "
        "Say `forward_outside = true` for client 'acme', if its numbers shall.",
    ]


def test_a_number_has_hours_and_leads_elsewhere_outside_of_them(tmp_path: Path) -> None:
    hours = """\
[client.number.hours]
time_zone = "Europe/Moscow"
open = ["mon-fri 09:00-18:00"]
otherwise = "102"
holidays = ["01-01", "2026-05-11"]
"""
    assert read(tmp_path, GOOD + hours).numbers[0].hours == Hours(
        "Europe/Moscow", ("mon-fri 09:00-18:00",), "102", ("01-01", "2026-05-11"))
    wrong = hours.replace("Moscow", "Moskow").replace("09:00", "9").replace("05-11", "05-32")
    assert faults(tmp_path, GOOD + wrong) == [
        "line 28: client[0].number[0].hours.time_zone: there is no time zone 'Europe/Moskow'. "
        "Did you mean `Europe/Moscow`?",
        "line 29: client[0].number[0].hours.open: 'mon-fri 9-18:00' is no opening time. "
        "Write it like `mon-fri 09:00-18:00`; the days are mon, tue, wed, thu, fri, sat, sun.",
        "line 31: client[0].number[0].hours.holidays: '2026-05-32' is no date. "
        "Write it like `2026-05-11`, or `01-01` for each year.",
    ]
    assert faults(tmp_path, GOOD + hours.replace('"102"', '"109"')) == [
        "line 30: client[0].number[0].hours.otherwise: there is no extension or group 109. "
        "Known in 'acme': 101, 102, 600; outside numbers begin with +.",
    ]


def test_a_login_of_another_client_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "acme.toml"
    path.write_text(GOOD)
    other = Client(ClientId("other"), "Other")
    current = Directory((other,), (Extension(other.id, "7", "acme-101", {}),))
    wanted = read_directory(path, "smartswitch")
    with pytest.raises(ConfigurationFaults) as wrong:
        merged(current, wanted, prune=False)
    assert str(wrong.value).startswith("line 13: client[0].extension[0].login: login 'acme-101' is taken: "
                                       "extension 7 of client 'other' has it")
    assert merged(current, wanted, prune=True) == wanted.directory


def test_the_difference_names_fields_and_no_secret(tmp_path: Path) -> None:
    before = read(tmp_path, GOOD)
    after = read(tmp_path, GOOD.replace("plain-password", "another-password").replace("secret-token", "new-token")
                 .replace('[[client.group]]\nnumber = "600"\nmembers = ["101", "102"]\n', "")
                 .replace('destination = "600"', 'destination = "101"'))
    changes = difference(before, replace(after, clients=(*after.clients, Client(ClientId("new"), "New"))))
    assert [str(change) for change in changes] == [
        "- group acme/600", "+ client new", "~ CRM of acme: token", "~ extension acme/101: password",
        "~ number acme/+74957654321: destination"]
    assert difference(before, before) == []
    assert "another-password" not in str(changes)


def test_a_client_that_the_file_does_not_name_stays(tmp_path: Path) -> None:
    path = tmp_path / "acme.toml"
    path.write_text(GOOD)
    other = Directory((Client(ClientId("other"), "Other"),))
    wanted = read_directory(path, "smartswitch")
    assert Change("-", "client other") not in difference(other, merged(other, wanted, prune=False))
    assert Change("-", "client other") in difference(other, merged(other, wanted, prune=True))


def by_tls(ca_file: Path, certificate: Path, key: Path) -> str:
    return GOOD.replace('host = "sip.example.org"', f'''host = "sip.example.org"
transport = "tls"
ca_file = "{ca_file}"
certificate = "{certificate}"
certificate_key = "{key}"''')


def test_a_trunk_by_tls_names_its_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours = authority.issue("our")
    text = by_tls(authority.file, ours.certificate, ours.key)
    (trunk,) = read(tmp_path, text).trunks
    assert (trunk.transport, trunk.ca_file) == ("TLS", str(authority.file))
    assert (trunk.certificate, trunk.certificate_key) == (str(ours.certificate), str(ours.key))
    assert any("has only one of certificate and key" in fault
               for fault in faults(tmp_path, text.replace(f'certificate_key = "{ours.key}"', "")))
    assert len(faults(tmp_path, text.replace('"tls"', '"tcp"'))) == 3
    assert len(faults(tmp_path, text.replace(f'"{authority.file}"', '"ca.pem"'))) == 1    # from which directory?


def test_any_destination_may_be_an_announcement_of_a_sound_that_is_there(tmp_path: Path) -> None:
    text = GOOD.replace('destination = "600"', 'destination = "announcement:busy"')
    text = text.replace('members =', 'on_busy = "announcement:closed"\nmembers =')
    text = text.replace('name = "Acme"', 'name = "Acme"\nmusic_on_hold = "jazz"')
    text = text.replace('crm_user = 77', 'crm_user = 77\nforward_always = "announcement:music"')
    (tmp_path / "acme.toml").write_text(text)
    right = read_directory(tmp_path / "acme.toml", "smartswitch", {"busy", "music", "closed", "jazz"}).directory
    assert (right.numbers[0].destination, right.groups[0].on_busy) == ("announcement:busy", "announcement:closed")
    assert right.extension[ACME, "101"].forward_always == "announcement:music"
    assert right.clients[0].music_on_hold == "jazz"
    known = ("Known are busy, congestion, music, ringback, silence, unavailable; "
             "a WAV file in the directory `media.sounds` of smartswitch.toml adds one.")
    assert faults(tmp_path, text) == [
        f"line 4: client[0].music_on_hold: there is no sound 'jazz'. {known}",
        f"line 24: client[0].group[0].on_busy: there is no sound 'closed'. {known}",
    ]
    hours = """\
[client.number.hours]
time_zone = "Europe/Moscow"
open = ["mon-fri 09:00-18:00"]
otherwise = "announcement:shut"
"""
    assert faults(tmp_path, GOOD + hours) == [
        f"line 30: client[0].number[0].hours.otherwise: there is no sound 'shut'. {known}",
    ]
    useless = GOOD.replace('destination = "600"', 'destination = "announcement:busy"\non_busy = "600"')
    assert faults(tmp_path, useless) == [
        "line 26: client[0].number[0].on_busy: announcement:busy takes every call, so none goes on. "
        "Take it out, or name the extension or group that shall ring before.",
    ]
    for wrong in ("announcement:", "announcement:a/b", "announcement:../x", "announcement:мы", "announce:busy"):
        assert "destination" in faults(tmp_path, GOOD.replace('destination = "600"', f'destination = "{wrong}"'))[0]



def test_what_is_wrong_with_the_files_of_a_trunk_is_said_with_its_remedy(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours, other, old = authority.issue("our"), authority.issue("other"), authority.issue("old", until=-DAY / 2)
    secret = authority.issue("secret", passphrase=b"hidden")

    def told(ca_file: Path, certificate: Path, key: Path) -> list[tuple[str, str]]:
        found = faults(tmp_path, by_tls(ca_file, certificate, key))
        assert all(fault.endswith(".") and ". " in fault for fault in found)
        return [(setting, fault) for fault in found for setting in ("ca_file", "certificate_key", "certificate")
                if f"].{setting}: " in fault]

    ((where, fault),) = told(tmp_path / "gone.pem", ours.certificate, ours.key)
    assert (where, "cannot be read" in fault) == ("ca_file", True)
    ((where, fault),) = told(authority.file, ours.certificate, other.key)
    assert (where, "is not the key of" in fault) == ("certificate_key", True)
    ((where, fault),) = told(authority.file, old.certificate, old.key)
    assert (where, "expired on" in fault) == ("certificate", True)
    ((where, fault),) = told(authority.file, secret.certificate, secret.key)
    assert (where, "is encrypted" in fault) == ("certificate_key", True)
    assert [where for where, _ in told(ours.key, ours.key, ours.certificate)] == [
        "ca_file", "certificate", "certificate_key"]


CLIENT_PASSWORD = GOOD.replace('name = "Acme"\n', 'name = "Acme"\npassword = "a password of acme"\n', 1)


def test_a_clients_password_becomes_a_hash_that_stays_while_the_password_does(tmp_path: Path) -> None:
    first = applied(tmp_path, CLIENT_PASSWORD, Directory())
    hashed = first.client[ACME].password_hash
    assert (first.client[ACME].login, hashed[:10]) == ("acme", "$argon2id$")
    assert difference(first, applied(tmp_path, CLIENT_PASSWORD, first)) == []
    other = applied(tmp_path, CLIENT_PASSWORD.replace("a password of", "another word of"), first)
    assert difference(first, other) == [Change("~", "client acme", ("password",))]
    assert applied(tmp_path, CLIENT_PASSWORD.replace("a password of acme", hashed), other).client[ACME] == (
        first.client[ACME])
    assert applied(tmp_path, GOOD, first).client[ACME].password_hash == ""
    assert first.client_by_login["acme"].id == ACME
    assert "$argon2id" not in repr(first)


def test_the_account_whose_widget_was_connected_stays_unless_it_is_another_one(tmp_path: Path) -> None:
    first = applied(tmp_path, GOOD, Directory())
    client = first.client[ACME]
    assert client.crm is not None
    connected = replace(first, clients=(replace(client, crm=replace(client.crm, account=101)),))
    assert applied(tmp_path, GOOD, connected) == connected
    moved = applied(tmp_path, GOOD.replace("acme.amocrm.ru", "other.amocrm.ru"), connected).client[ACME].crm
    assert moved is not None
    assert moved.account is None


def test_logins_of_clients_are_their_own(tmp_path: Path) -> None:
    assert faults(tmp_path, GOOD + '[[client]]\nid = "b"\nlogin = "acme"\npassword = "too short"\n') == [
        "line 30: client[1].password: a client's password has 12 to 200 characters. "
        "Give another one, or an argon2id hash; it opens the client's settings from the internet."]
    assert faults(tmp_path, GOOD + '[[client]]\nid = "b"\nlogin = "acme"\n') == [
        "line 29: client[1].login: another client has the login 'acme', in line 2. Keep one of the two."]
    with pytest.raises(ConfigurationFaults) as taken:
        applied(tmp_path, '[[client]]\nid = "b"\nlogin = "acme"\n', applied(tmp_path, GOOD, Directory()))
    assert [str(fault) for fault in taken.value.faults] == [
        "line 3: client[0].login: client 'acme' has the login 'acme'. Choose another `login`; they are unique on the "
        "server."]


def applied(directory: Path, text: str, current: Directory) -> Directory:
    path = directory / "acme.toml"
    path.write_text(text)
    return merged(current, read_directory(path, "smartswitch"), prune=False)
