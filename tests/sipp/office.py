"""What the daemon serves in these tests: one client, three trunks at one address, four phones, four numbers."""

DID = "+74951112233"                      # rings extension 101
QUICK_DID = "+74951112244"                # the same, for two seconds only
RPID_DID = "+74951112255"                 # the same, by the trunk that says who calls in Remote-Party-ID
SHUT_DID = "+74951112266"                 # leads to an announcement, of a second
PASSWORD = "correct-horse-battery"
OTHER_PASSWORD = "wrong-horse-battery"

OFFICE = f"""\
[[client]]
id = "office"
name = "Office"

[[client.trunk]]
name = "operator"
host = "{{trunk}}"
port = 5060
priority = 1

[[client.trunk]]
name = "profile-pai"
host = "{{trunk}}"
port = 5060
profile = "e164-plus-pai"
caller_id = "{DID}"
prefixes = ["+44"]

[[client.trunk]]
name = "profile-rpid"
host = "{{trunk}}"
port = 5060
profile = "rpid"
caller_id = "{DID}"
prefixes = ["+49"]

[[client.extension]]
number = "101"
password = "{PASSWORD}"

[[client.extension]]
number = "102"
password = "{PASSWORD}"

[[client.extension]]
number = "103"
password = "{PASSWORD}"

[[client.extension]]
number = "104"
password = "{PASSWORD}"
hide_caller_id = true

[[client.number]]
number = "{DID}"
destination = "101"

[[client.number]]
number = "{QUICK_DID}"
destination = "101"
ring_seconds = 2

[[client.number]]
number = "{RPID_DID}"
destination = "101"
trunk = "profile-rpid"

[[client.number]]
number = "{SHUT_DID}"
destination = "announcement:silence"
"""
