"""Digest authentication, both sides, as SIP uses it: RFC 7616, RFC 8760, RFC 3261 §22; and as RFC 2617 left it."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from random import Random
from typing import Final

from b2bua.sip.fields import AuthParams
from b2bua.sip.grammar import ParseError, quote
from b2bua.sip.message import Request, Response
from b2bua.sip.uri import Uri

MAX_NONCES_IN_USE: Final = 20_000   # nonces whose counts the server remembers at once
NONCE_WINDOW: Final = 64            # how far a nonce count may arrive out of order
MAX_REALMS: Final = 8               # challenges that a client remembers
NONCE_LIFE: Final = 300.0           # seconds; beyond it the answer is stale, not wrong

Headers = tuple[tuple[str, str], ...]

_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{28}")     # 6 octets of time, 3 of a count, 12 of a MAC
_NONCE_COUNT: Final = re.compile(r"[0-9a-fA-F]{8}")


class Algorithm(Enum):
    """What RFC 7616 §6.1 registers; the value is the name on the wire. Later ones are stronger."""

    MD5 = "MD5"
    MD5_SESS = "MD5-sess"
    SHA256 = "SHA-256"
    SHA256_SESS = "SHA-256-sess"
    SHA512_256 = "SHA-512-256"
    SHA512_256_SESS = "SHA-512-256-sess"

    @property
    def session(self) -> bool:
        return self.value.endswith("-sess")

    def hash(self, data: str | bytes) -> str:
        octets = data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape")
        return hashlib.new(_HASHLIB_NAMES[self], octets, usedforsecurity=False).hexdigest()


_HASHLIB_NAMES: Final = {
    Algorithm.MD5: "md5",
    Algorithm.MD5_SESS: "md5",
    Algorithm.SHA256: "sha256",
    Algorithm.SHA256_SESS: "sha256",
    Algorithm.SHA512_256: "sha512_256",
    Algorithm.SHA512_256_SESS: "sha512_256",
}
_BY_NAME: Final = {algorithm.value.lower(): algorithm for algorithm in Algorithm}
_STRENGTH: Final = {algorithm: place for place, algorithm in enumerate(Algorithm)}


def ha1(algorithm: str, username: str, realm: str, password: str) -> str:
    """What is stored instead of a password (RFC 7616 §3.4.2)."""
    return Algorithm(algorithm).hash(f"{username}:{realm}:{password}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an Authorization header says."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: Algorithm | None         # None: one that nobody here knows
    qop: str | None = None              # None: the answer of RFC 2069
    nc: str = ""
    cnonce: str = ""
    opaque: str | None = None


def expected_response(credentials: Credentials, algorithm: Algorithm, ha1: str, method: str, body: bytes) -> str:
    """The digest that these credentials must hold (RFC 7616 §3.4.1)."""
    c = credentials
    if algorithm.session:
        ha1 = algorithm.hash(f"{ha1}:{c.nonce}:{c.cnonce}")
    a2 = f"{method}:{c.uri}"
    if c.qop == "auth-int":
        a2 = f"{a2}:{algorithm.hash(body)}"
    if c.qop is None:
        return algorithm.hash(f"{ha1}:{c.nonce}:{algorithm.hash(a2)}")
    return algorithm.hash(f"{ha1}:{c.nonce}:{c.nc}:{c.cnonce}:{c.qop}:{algorithm.hash(a2)}")


def parse_credentials(value: str) -> Credentials | None:
    """None when it is no digest, or lacks what every digest has."""
    parameters = _digest_parameters(value)
    if parameters is None or not {"username", "realm", "nonce", "uri", "response"} <= parameters.keys():
        return None
    return Credentials(
        username=parameters["username"],
        realm=parameters["realm"],
        nonce=parameters["nonce"],
        uri=parameters["uri"],
        response=parameters["response"].lower(),
        algorithm=_BY_NAME.get(parameters.get("algorithm", "MD5").lower()),
        qop=parameters["qop"].lower() if "qop" in parameters else None,
        nc=parameters.get("nc", ""),
        cnonce=parameters.get("cnonce", ""),
        opaque=parameters.get("opaque"),
    )


def _digest_parameters(value: str) -> Mapping[str, str] | None:
    try:
        read = AuthParams.parse(value)
    except ParseError:
        return None
    return read.params if read.is_digest else None


def _values(fields: Iterable[tuple[str, str]], wanted: str) -> Iterator[str]:
    # Not get_all(): a comma separates parameters here, not values (RFC 3261 §7.3.1).
    return (value for name, value in fields if name.lower() == wanted)


# ---- the server's side --------------------------------------------------------------------------------------------


class Verdict(Enum):
    ACCEPTED = "accepted"
    STALE = "stale"         # says nothing about the password: answer again under a new nonce
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class DigestPolicy:
    """What the server asks for.

    Only MD5 by default: RFC 8760 wants the strongest challenge first, and phones such as baresip 1.0 give up
    at the first one that they do not know.
    """

    realm: str
    algorithms: tuple[str, ...] = ("MD5",)      # an extension's HA1 must be stored for each of them
    qop: tuple[str, ...] = ("auth",)
    nonce_life: float = NONCE_LIFE
    without_qop: bool = True                    # take answers in the manner of RFC 2069 (pyVoIP), one for each nonce


@dataclass(slots=True)
class _Window:
    """Which counts of one nonce were seen: the highest, and a bit for each of the NONCE_WINDOW below it."""

    issued: float
    highest: int = 0
    seen: int = 0

    def take(self, count: int) -> bool:
        if count > self.highest:
            shift = min(count - self.highest, NONCE_WINDOW)
            self.seen = ((self.seen << shift) | 1) & ((1 << NONCE_WINDOW) - 1)
            self.highest = count
            return True
        bit = 1 << (self.highest - count) if self.highest - count < NONCE_WINDOW else 0
        if count < 1 or not bit or self.seen & bit:
            return False
        self.seen |= bit
        return True


class NonceCounts:
    """The counts already used of the nonces in use (RFC 7616 §3.3, nc). Only right answers get here, so a stranger
    cannot fill it; when it is full the oldest nonces are dropped and stay refused."""

    def __init__(self, life: float, limit: int = MAX_NONCES_IN_USE) -> None:
        self._life = life
        self._limit = limit
        self._windows: dict[str, _Window] = {}
        self._forgotten_until = -1.0        # nothing issued up to then is taken as new

    def __len__(self) -> int:
        return len(self._windows)

    def use(self, nonce: str, issued: float, count: int, now: float) -> bool:
        """False when this count was used, or may have been."""
        window = self._windows.get(nonce)
        if window is None:
            if issued <= self._forgotten_until:
                return False
            self._make_room(now)
            window = self._windows[nonce] = _Window(issued)
        return window.take(count)

    def _make_room(self, now: float) -> None:
        if len(self._windows) < self._limit:
            return
        by_age = sorted(self._windows, key=lambda nonce: self._windows[nonce].issued)
        for place, nonce in enumerate(by_age):
            issued = self._windows[nonce].issued
            if now - issued <= self._life and place >= max(1, self._limit // 10):
                return
            self._forgotten_until = max(self._forgotten_until, issued)
            del self._windows[nonce]


class DigestServer:
    """Challenges and checks. Nonces are made of a time, a count and a MAC, so that unanswered ones cost nothing."""

    def __init__(self, policy: DigestPolicy, key: bytes) -> None:
        self.policy = policy
        self._key = key
        self._serial = count()
        self._algorithms = tuple(map(Algorithm, policy.algorithms))
        self._used = NonceCounts(policy.nonce_life)

    def challenges(self, source: str, now: float, *, stale: bool = False) -> Headers:
        """The headers of a 401, one for each algorithm, in the order of the policy (RFC 8760 §2.3: the best first).

        Without opaque, which we have no use for: a challenge should not be longer than what it answers.
        """
        nonce = self._nonce(source, now)
        qop = ", ".join(self.policy.qop)
        return tuple(
            (
                "WWW-Authenticate",
                f'Digest realm={quote(self.policy.realm)}, nonce="{nonce}", '
                f'algorithm={algorithm.value}, qop="{qop}"' + (", stale=true" if stale else ""),
            )
            for algorithm in self._algorithms
        )

    def credentials(self, request: Request) -> Credentials | None:
        """The answer to a challenge of ours, if the request has one that can be read."""
        for value in _values(request.headers, "authorization"):
            credentials = parse_credentials(value)
            if credentials is not None and credentials.realm == self.policy.realm:
                return credentials
        return None

    def issued_to(self, source: str, nonce: str, now: float) -> bool:
        """Whether that source got the nonce from us lately: so it is where it says it is."""
        issued = self._issued(nonce, source)
        return issued is not None and now - issued <= self.policy.nonce_life

    def verify(
        self, credentials: Credentials, request: Request, ha1s: Mapping[str, str], source: str, now: float
    ) -> Verdict:
        """`ha1s` is empty for a login that does not exist; that takes as long as a wrong password.

        Deviation: a nonce that is not ours, not of this source, or expired is stale without a look at the digest (RFC
        7616 §3.3 wants it right first). So it is no oracle for passwords, and a forged source address cannot earn
        its owner a failure.
        """
        issued = self._issued(credentials.nonce, source)
        if issued is None or now - issued > self.policy.nonce_life:
            return Verdict.STALE
        algorithm = credentials.algorithm
        if algorithm not in self._algorithms or not self._well_formed(credentials):
            return Verdict.WRONG
        assert algorithm is not None
        known = ha1s.get(algorithm.value, "")
        expected = expected_response(credentials, algorithm, known or "-", request.method, request.body)
        right = hmac.compare_digest(expected.encode(), credentials.response.encode("utf-8", "surrogateescape"))
        if not (right and known and _same_target(credentials, request.uri)):
            return Verdict.WRONG
        nc = int(credentials.nc, 16) if credentials.qop else 1      # RFC 2069 counts nothing: one request a nonce
        return Verdict.ACCEPTED if self._used.use(credentials.nonce, issued, nc, now) else Verdict.STALE

    def _well_formed(self, credentials: Credentials) -> bool:
        if credentials.qop is None:
            return self.policy.without_qop
        counted = bool(_NONCE_COUNT.fullmatch(credentials.nc)) and bool(credentials.cnonce)
        return credentials.qop in self.policy.qop and counted

    def _nonce(self, source: str, now: float) -> str:
        made = int(now * 1000).to_bytes(6, "big") + (next(self._serial) & 0xFFFFFF).to_bytes(3, "big")
        return urlsafe_b64encode(made + self._mac(made, source)).decode()

    def _issued(self, nonce: str, source: str) -> float | None:
        if _NONCE.fullmatch(nonce) is None:
            return None
        octets = urlsafe_b64decode(nonce)
        made, mac = octets[:9], octets[9:]
        return int.from_bytes(made[:6], "big") / 1000 if hmac.compare_digest(self._mac(made, source), mac) else None

    def _mac(self, made: bytes, source: str) -> bytes:
        return hmac.digest(self._key, made + source.encode(), "sha256")[:12]


def _same_target(credentials: Credentials, target: Uri) -> bool:
    """Whether the digest was made for this Request-URI.

    Deviation from RFC 7616 §3.4.6: phones and edge proxies rewrite host and parameters (pyVoIP signs another
    transport than it sends), so only what a thief of credentials would change is compared: whom it reaches. Answers
    without qop, where they are taken at all, may name nobody: pyVoIP signs its server, whomever it calls.
    """
    if credentials.uri == str(target):
        return True
    try:
        uri = Uri.parse(credentials.uri)
    except ParseError:
        return False
    return uri.user == target.user or (credentials.qop is None and not uri.user)


# ---- the client's side --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Challenge:
    header: str                     # where the answer goes
    realm: str
    nonce: str
    algorithm: Algorithm
    named: bool                     # the challenge named its algorithm: so does the answer, else old servers stumble
    qop: str | None
    opaque: str | None
    stale: bool
    nc: int = 0


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """Why a challenge gets no answer."""

    reason: str


@dataclass(slots=True)
class DigestClient:
    """Answers challenges with one login, and signs later requests before they are challenged again."""

    username: str
    password: str = field(repr=False)
    random: Random = field(repr=False)
    _known: dict[tuple[str, str], _Challenge] = field(default_factory=dict, init=False)

    def answer(self, response: Response, request: Request) -> Headers | Unanswerable:
        """The credentials for another try of a request that got this 401 or 407; `request` is what was refused."""
        challenges = list(_strongest(response.headers))
        if not challenges:
            return Unanswerable("no challenge that we can answer")
        for challenge in challenges:
            if not challenge.stale and _answered_freshly(challenge, request):
                self._known.pop((challenge.header, challenge.realm), None)
                return Unanswerable("credentials refused")
            self._remember(challenge)
        return self.sign(request.method, str(request.uri), request.body)

    def authorize(self, request: Request, response: Response) -> Headers | None:
        """The same for who needs no reason."""
        answer = self.answer(response, request)
        return None if isinstance(answer, Unanswerable) else answer

    def sign(self, method: str, uri: str, body: bytes = b"") -> Headers:
        """Credentials, before anybody asks again, for every realm that ever did: all proxies on the way want theirs
        (RFC 3261 §22.3)."""
        return tuple((c.header, self._sign(c, method, uri, body)) for c in self._known.values())

    def _remember(self, challenge: _Challenge) -> None:
        key = challenge.header, challenge.realm
        known = self._known.pop(key, None)
        if known is not None and known.nonce == challenge.nonce:
            challenge.nc = known.nc         # a nonce asked about twice goes on counting
        elif len(self._known) >= MAX_REALMS:
            del self._known[next(iter(self._known))]
        self._known[key] = challenge

    def _sign(self, challenge: _Challenge, method: str, uri: str, body: bytes) -> str:
        challenge.nc += 1
        counted = challenge.qop is not None or challenge.algorithm.session
        credentials = Credentials(
            self.username, challenge.realm, challenge.nonce, uri, "", challenge.algorithm, challenge.qop,
            nc=f"{challenge.nc:08x}" if counted else "",
            cnonce=f"{self.random.getrandbits(64):016x}" if counted else "",
        )
        ha1 = challenge.algorithm.hash(f"{self.username}:{challenge.realm}:{self.password}")
        response = expected_response(credentials, challenge.algorithm, ha1, method, body)
        return "Digest " + ", ".join(_answer_parameters(challenge, credentials, response))


def _answer_parameters(challenge: _Challenge, credentials: Credentials, response: str) -> Iterator[str]:
    yield f"username={quote(credentials.username)}, realm={quote(credentials.realm)}"
    yield f'nonce={quote(credentials.nonce)}, uri="{credentials.uri}", response="{response}"'
    if challenge.named:
        yield f"algorithm={challenge.algorithm.value}"
    if credentials.cnonce:
        yield f'cnonce="{credentials.cnonce}"'
    if challenge.opaque is not None:
        yield f"opaque={quote(challenge.opaque)}"
    if challenge.qop is not None:
        yield f"qop={challenge.qop}, nc={credentials.nc}"


def _strongest(fields: Iterable[tuple[str, str]]) -> Iterator[_Challenge]:
    """One challenge for each realm: our policy is the strongest algorithm, wherever it stands (RFC 8760 §2.4)."""
    best: dict[tuple[str, str], _Challenge] = {}
    for name, value in fields:
        challenge = _read_challenge(name.lower(), value)
        if challenge is None:
            continue
        key = challenge.header, challenge.realm
        if key not in best or _STRENGTH[challenge.algorithm] > _STRENGTH[best[key].algorithm]:
            best[key] = challenge
    yield from best.values()


_ANSWERED_IN: Final = {"www-authenticate": "Authorization", "proxy-authenticate": "Proxy-Authorization"}


def _read_challenge(name: str, value: str) -> _Challenge | None:
    parameters = _digest_parameters(value) if name in _ANSWERED_IN else None
    if parameters is None or not {"realm", "nonce"} <= parameters.keys():
        return None
    algorithm = _BY_NAME.get(parameters.get("algorithm", "MD5").lower())
    offered = [qop.strip().lower() for qop in parameters.get("qop", "").split(",") if qop.strip()]
    if algorithm is None or (offered and not {"auth", "auth-int"} & set(offered)):
        return None
    return _Challenge(
        header=_ANSWERED_IN[name],
        realm=parameters["realm"],
        nonce=parameters["nonce"],
        algorithm=algorithm,
        named="algorithm" in parameters,
        qop=_preferred_qop(offered),
        opaque=parameters.get("opaque"),
        stale=parameters.get("stale", "").lower() == "true",
    )


def _preferred_qop(offered: Sequence[str]) -> str | None:
    if not offered:
        return None
    # auth-int only where nothing else is offered: proxies on the way may touch bodies.
    return "auth" if "auth" in offered else "auth-int"


def _answered_freshly(challenge: _Challenge, request: Request) -> bool:
    """Whether the refused request answered a challenge of this realm at first hand; one that was signed in advance
    under an old nonce says nothing against the password."""
    for value in _values(request.headers, challenge.header.lower()):
        previous = parse_credentials(value)
        if previous is not None and previous.realm == challenge.realm:
            return previous.nc in ("", "00000001") or previous.nonce == challenge.nonce
    return False
