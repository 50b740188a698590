"""What the daemon serves in these tests: one client, one trunk, three phones, two numbers."""

DID = "+74951112233"                      # rings extension 101
QUICK_DID = "+74951112244"                # the same, for two seconds only
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

[[client.extension]]
number = "101"
password = "{PASSWORD}"

[[client.extension]]
number = "102"
password = "{PASSWORD}"

[[client.extension]]
number = "103"
password = "{PASSWORD}"

[[client.number]]
number = "{DID}"
destination = "101"

[[client.number]]
number = "{QUICK_DID}"
destination = "101"
ring_seconds = 2
"""
