"""What the pages call the fields of a trunk, and what they say of the faults that its test finds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from b2bua.control import TrunkFault

WORDS: Mapping[str, tuple[str, str]] = {
    "TrunkEntry.name": ("Name", "Letters, digits, dot, hyphen and underscore."),
    "host": ("Server of the operator", "Its name or its address, as the contract says."),
    "port": ("Port", "Empty: as the DNS says (RFC 3263), else the usual one."),
    "transport": ("Transport", "How the server is reached. TLS keeps calls from being listened to on the way."),
    "networks": ("Networks", "Whence calls come beside the server itself, one a line: 192.0.2.0/24."),
    "register": ("Register there", "With user name and password: for lines that the operator gives as an account."),
    "user": ("User name", "Of the account at the operator."),
    "domain": ("Domain", "Host part of our address there. Empty: the server."),
    "priority": ("Order", "Outgoing calls try lower numbers first."),
    "weight": ("Share", "Of the calls, among trunks of one order."),
    "prefixes": ("Only to numbers that begin with", "One a line, as +7495. Empty: to all."),
    "profile": ("Kind of operator", "One of the list. What follows says only in what this operator differs from it."),
    "number_format": ("Numbers that we call", ""),
    "caller_format": ("Our number", "How the number shown is written."),
    "identity": ("Number shown also in", ""),
    "from_shows": ("From shows", ""),
    "trusts": ("Who calls is read from", "The first of these that has a number, one a line: p-asserted-identity, "
               "remote-party-id, p-preferred-identity, from. Empty: as the kind of operator has it."),
    "ca_file": ("Authorities", "A file on the server. Empty: those of the system."),
    "certificate": ("Our certificate", "A file on the server, for operators that demand one."),
    "certificate_key": ("Its private key", "A file on the server."),
}

CHOICES: Mapping[str, str] = {
    "e164": "+79265554433",
    "plain": "79265554433",
    "zeros": "0079265554433",
    "national": "89265554433, as dialled in the country",
    "dialled": "As the employee dialled it",
    "none": "In no other header",
    "number": "Our number",
    "account": "Our account there",
}

FAULTS: Mapping[TrunkFault, tuple[str, str]] = {
    TrunkFault.NO_ADDRESS: (
        "The name of the server leads nowhere.", "Look whether it is spelled as the operator gave it, and ask the "
        "operator of the platform whether the DNS works."),
    TrunkFault.NOT_SPOKEN: (
        "This server has no listener for that transport.", "Choose another transport, or ask the operator of the "
        "platform to open one."),
    TrunkFault.SILENT: (
        "No answer to OPTIONS.", "As a rule a firewall between us, the wrong address or port, or an operator that "
        "does not know our address: ask them to let it in."),
    TrunkFault.UNREACHABLE: (
        "Nobody is there: the network refuses.", "Look at address, port and transport; on TCP and TLS a firewall can "
        "refuse as well."),
    TrunkFault.BAD_TLS: (
        "No TLS connection.", "The certificate has to name the server or the domain, and be vouched for by a known "
        "authority; some operators demand a certificate of ours."),
    TrunkFault.UNKNOWN_TO_THEM: (
        "The operator answers, but does not know us.", "Ask them to allow our address for this line, or register "
        "with user name and password."),
    TrunkFault.PASSWORD_WANTED: (
        "The operator asks for a password, and there is none.", "Enter user name and password as they were given; "
        "most such lines want to be registered as well."),
    TrunkFault.IN_TROUBLE: (
        "The operator's server is in trouble.", "Try again later; if it stays, tell the operator the status above."),
    TrunkFault.WRONG_PASSWORD: (
        "The registrar refuses user name and password.", "Enter both again, exactly as they were given; look whether "
        "the domain is another one than the server."),
    TrunkFault.ACCOUNT_REFUSED: (
        "The registrar does not know this account, or has closed it.", "Check user name and domain; ask the operator "
        "whether the account is open and paid."),
    TrunkFault.REGISTRAR_SILENT: (
        "The registrar does not answer.", "As with OPTIONS: firewall, address or port."),
    TrunkFault.REGISTRATION_FAILED: (
        "The registration fails.", "Tell the operator the answer above; it is tried again by itself."),
    TrunkFault.NOT_REGISTERED_YET: (
        "The registration is just being tried.", "Test again in a few seconds."),
}


def messages() -> Iterator[str]:
    """All that is said of faults, for translators; the words of fields are in office_words.py as well."""
    for fault in FAULTS.values():
        yield from fault
