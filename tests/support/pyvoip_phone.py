"""pyVoIP as a program: `pyvoip_phone.py SERVER HOST USER PASSWORD FREQUENCY FILE`. It is under the GPL and we are not,
so nothing of ours is imported here, and this is imported by nothing.

Answers every call with a tone, and writes what it hears to FILE (8 bits, unsigned, 8 kHz). Standard input: call NUMBER,
hangup, quit. Standard output: registered, answered, key K, ended.
"""

import math
import sys
from pathlib import Path
from threading import Event, Thread

from pyVoIP.VoIP import CallState, VoIPCall, VoIPPhone
from pyVoIP.VoIP.status import PhoneStatus

RATE, PACKET, MICROPHONE_SECONDS, TICK = 8000, 160, 30, 0.02


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


class Desk:
    def __init__(self, frequency: float, heard: Path) -> None:
        self._microphone = bytes(
            round(128 + 64 * math.sin(2 * math.pi * frequency * at / RATE)) for at in range(RATE * MICROPHONE_SECONDS)
        )
        self._heard = heard
        self.call: VoIPCall | None = None

    def answer(self, call: VoIPCall) -> None:
        """pyVoIP takes the call for dead as soon as this returns."""
        call.answer()
        self.talk(call)

    def talk(self, call: VoIPCall) -> None:
        self.call = call
        while call.state is CallState.DIALING:        # it has no event for that
            Event().wait(TICK)
        say("answered")
        call.write_audio(self._microphone)
        with self._heard.open("ab", buffering=0) as heard:
            while call.state is CallState.ANSWERED:
                heard.write(call.read_audio(PACKET))
                if key := call.get_dtmf():
                    say(f"key {key}")
        say("ended")


def main(server: str, host: str, user: str, password: str, frequency: str, heard: str) -> None:
    address, _, port = server.partition(":")
    desk = Desk(float(frequency), Path(heard))
    phone = VoIPPhone(address, int(port), user, password, myIP=host, callCallback=desk.answer)
    phone.start()
    say("registered" if phone.get_status() is PhoneStatus.REGISTERED else "refused")
    for line in sys.stdin:
        match line.split():
            case ["call", number]:
                Thread(target=desk.talk, args=(phone.call(number),)).start()
            case ["hangup"] if desk.call is not None:
                desk.call.hangup()
            case ["quit"]:
                break
    phone.stop()


main(*sys.argv[1:])
