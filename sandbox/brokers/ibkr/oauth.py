"""OAuth 1.0a on the broker's side: the consumer's keys, the handshake, the check of each signature.

Facts: reference ibkr 3.2. Whether query parameters belong in the signed text differs between clients, so both
are accepted unless told otherwise.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sandbox.brokers.serving import Request

QueryRule = Literal["either", "left_out", "included"]

GENERATOR = 2
PRIME = int(
    # The 2048-bit group of RFC 3526.
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
REALM = "limited_poa"
TOKEN_MS = 24 * 3_600_000
CLOCK_SECONDS = 300

_PARAMETER = re.compile(r'\s*(\w+)="([^"]*)"\s*')


class NotAccepted(Exception):
    """A request that OAuth refuses; the text stands in the 401."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """What a user of the self-service page holds afterwards."""

    consumer_key: str
    access_token: str
    access_token_secret: str
    signature_key: str
    encryption_key: str
    dh_param: str
    realm: str = REALM

    def __repr__(self) -> str:
        return "Consumer(…)"


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A live session token and until when it is good."""

    token: bytes
    expires_ms: int


class Authority:
    """The broker's half: public keys, the token secret in clear, the live session."""

    def __init__(self, seed: str) -> None:
        noise = hashlib.shake_256(f"ibkr oauth {seed}".encode()).digest(40)
        signature, encryption = _key(), _key()
        self._secret = noise[:30]
        self._public = signature.public_key()
        ciphertext = encryption.public_key().encrypt(self._secret, padding.PKCS1v15())
        self._live: LiveSession | None = None
        self._nonces: deque[tuple[int, str]] = deque()
        self._known_nonces: set[str] = set()
        self.consumer = Consumer(
            consumer_key="".join(chr(ord("A") + byte % 26) for byte in noise[30:39]),
            access_token=hashlib.sha256(noise).hexdigest()[:20],
            access_token_secret=base64.b64encode(ciphertext).decode(),
            signature_key=_pem(signature),
            encryption_key=_pem(encryption),
            dh_param=_dh_param(),
        )

    def end(self) -> None:
        """No token is good any more."""
        self._live = None

    def live(self, now_ms: int) -> bool:
        return self._live is not None and now_ms < self._live.expires_ms

    def handshake(self, request: Request, now_ms: int, address: str | None) -> dict[str, object]:
        """The answer of /oauth/live_session_token."""
        given = self._known(request, now_ms, "RSA-SHA256")
        signature = _decoded(given)
        for text in _signed_texts(request, given, address, "either"):
            try:
                self._public.verify(
                    signature, (self._secret.hex() + text).encode(), padding.PKCS1v15(), hashes.SHA256()
                )
            except InvalidSignature:
                continue
            break
        else:
            raise NotAccepted("invalid signature")
        self._note(given, now_ms)
        return self._agree(given.get("diffie_hellman_challenge", ""), now_ms)

    def check(self, request: Request, now_ms: int, address: str | None, query: QueryRule) -> None:
        """Raises NotAccepted unless the request is signed with the live session token."""
        given = self._known(request, now_ms, "HMAC-SHA256")
        if self._live is None or now_ms >= self._live.expires_ms:
            raise NotAccepted("not authenticated")
        signature = _decoded(given)
        texts = _signed_texts(request, given, address, query)
        if not any(hmac.compare_digest(signature, _mac(self._live.token, text)) for text in texts):
            raise NotAccepted("invalid signature")
        self._note(given, now_ms)

    def _known(self, request: Request, now_ms: int, method: str) -> dict[str, str]:
        given = parameters(request.headers.get("authorization", ""))
        if given.get("oauth_consumer_key") != self.consumer.consumer_key:
            raise NotAccepted("id: 39687, error: invalid consumer")
        if given.get("oauth_token") != self.consumer.access_token:
            raise NotAccepted("invalid access token")
        if given.get("realm") != REALM:
            raise NotAccepted("invalid realm")
        if given.get("oauth_signature_method") != method:
            raise NotAccepted(f"expected the signature method {method}")
        stamp = given.get("oauth_timestamp", "")
        if not (stamp.isascii() and stamp.isdigit()) or abs(int(stamp) - now_ms // 1000) > CLOCK_SECONDS:
            raise NotAccepted("invalid timestamp")
        if not given.get("oauth_nonce") or given["oauth_nonce"] in self._known_nonces:
            raise NotAccepted("invalid nonce")
        return given

    def _note(self, given: Mapping[str, str], now_ms: int) -> None:
        """Remember a nonce for as long as its timestamp would be accepted."""
        self._nonces.append((now_ms, given["oauth_nonce"]))
        self._known_nonces.add(given["oauth_nonce"])
        while self._nonces[0][0] < now_ms - 2 * CLOCK_SECONDS * 1000:
            self._known_nonces.discard(self._nonces.popleft()[1])

    def _agree(self, challenge: str, now_ms: int) -> dict[str, object]:
        try:
            theirs = int(challenge, 16)
        except ValueError:
            theirs = 0
        if not 1 < theirs < PRIME - 1:
            raise NotAccepted("invalid diffie-hellman challenge")
        ours = secrets.randbits(256)
        shared = pow(theirs, ours, PRIME)
        token = hmac.digest(_with_sign_byte(shared), self._secret, "sha1")
        self._live = LiveSession(token, now_ms + TOKEN_MS)
        return {
            "diffie_hellman_response": format(pow(GENERATOR, ours, PRIME), "x"),
            "live_session_token_signature": hmac.digest(token, self.consumer.consumer_key.encode(), "sha1").hex(),
            "live_session_token_expiration": self._live.expires_ms,
        }


def parameters(header: str) -> dict[str, str]:
    """The parameters of an Authorization header, `realm` among them."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "oauth":
        return {}
    found = (_PARAMETER.fullmatch(part) for part in rest.split(","))
    return {match[1]: unquote(match[2]) for match in found if match}


def _signed_texts(request: Request, given: Mapping[str, str], address: str | None, query: QueryRule) -> Iterator[str]:
    """Every base string the caller may have signed: under each name this server has, with or without the query."""
    own = {name: value for name, value in given.items() if name not in ("realm", "oauth_signature")}
    asked = dict(parse_qsl(request.query, keep_blank_values=True))
    variants = []
    if query != "included":
        variants.append(own)
    if query != "left_out" and (asked or query == "included"):
        variants.append(own | asked)
    hosts = {request.host} | ({urlsplit(address).netloc} if address else set())
    for host in sorted(hosts):
        for scheme in ("https", "http"):
            for fields in variants:
                pairs = "&".join(f"{_enc(name)}={_enc(value)}" for name, value in sorted(fields.items()))
                yield f"{request.method}&{_enc(f'{scheme}://{host}{request.path}')}&{_enc(pairs)}"


def _enc(text: str) -> str:
    return quote(text, safe="")


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _decoded(given: Mapping[str, str]) -> bytes:
    try:
        return base64.b64decode(given.get("oauth_signature", ""), validate=True)
    except binascii.Error:
        raise NotAccepted("invalid signature") from None


def _with_sign_byte(number: int) -> bytes:
    """Big-endian, with a zero in front where the highest bit is set: two's complement of a positive number."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _dh_param() -> str:
    """dhparam.pem: prime and generator as a DER sequence of two integers (PKCS #3)."""
    prime = _with_sign_byte(PRIME)
    integers = b"\x02\x82" + len(prime).to_bytes(2, "big") + prime + b"\x02\x01" + bytes([GENERATOR])
    text = base64.b64encode(b"\x30\x82" + len(integers).to_bytes(2, "big") + integers).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN DH PARAMETERS-----", *lines, "-----END DH PARAMETERS-----", ""])
